// Four accounts, apart since their writers are: who writes to a host's account runs code as that app, who writes the records
// is obeyed, and the anchors must outlive both.
param location string
param tags object = {}
param token string

@description('The group where the anchors stay when everything else is removed.')
param auditGroup string

param sku string
param encryption object
param workspaceId string
param isPrivate bool
param appsSubnetId string
param endpointsSubnetId string
param zoneIds object
param immutableDays int

@description('True: the retention of the anchors is locked, and is left as it is.')
param isLocked bool

var subnetId = isPrivate ? '' : appsSubnetId
var names = {
  front: 'stgrfront${token}'
  hands: 'stgrhands${token}'
  records: 'stgrrecords${token}'
  anchors: 'stgranchor${token}'
}
var own = resourceGroup().name
var parts = [
  {
    account: names.front
    group: own
    part: 'blob'
  }
  {
    account: names.front
    group: own
    part: 'table'
  }
  {
    account: names.hands
    group: own
    part: 'blob'
  }
  {
    account: names.hands
    group: own
    part: 'table'
  }
  {
    account: names.records
    group: own
    part: 'blob'
  }
  {
    account: names.records
    group: own
    part: 'queue'
  }
  {
    account: names.records
    group: own
    part: 'table'
  }
  {
    account: names.anchors
    group: auditGroup
    part: 'blob'
  }
]

module frontHost 'account.bicep' = {
  name: 'account-front'
  params: {
    name: names.front
    location: location
    tags: tags
    sku: sku
    encryption: encryption
    subnetId: subnetId
    workspaceId: workspaceId
    containers: [
      'package'
    ]
  }
}

module handsHost 'account.bicep' = {
  name: 'account-hands'
  params: {
    name: names.hands
    location: location
    tags: tags
    sku: sku
    encryption: encryption
    subnetId: subnetId
    workspaceId: workspaceId
    containers: [
      'package'
    ]
  }
}

module records 'account.bicep' = {
  name: 'account-records'
  params: {
    name: names.records
    location: location
    tags: tags
    sku: sku
    encryption: encryption
    subnetId: subnetId
    workspaceId: workspaceId
    letsEventGridIn: true
    containers: [
      'bodies'
      'dead-letters'
    ]
    shortLived: [
      'dead-letters/'
    ]
    queues: [
      'events'
      'events-poison'
      'looks'
      'looks-poison'
    ]
    tables: [
      'cases'
      'open'
      'budgets'
    ]
  }
}

module anchors 'account.bicep' = {
  name: 'account-anchors'
  scope: resourceGroup(auditGroup)
  params: {
    name: names.anchors
    location: location
    tags: tags
    sku: sku
    encryption: encryption
    subnetId: subnetId
    workspaceId: workspaceId
    isLocked: true
    immutableDays: immutableDays
    containers: [
      'anchors'
    ]
    immutableContainers: isLocked ? [] : [
      'anchors'
    ]
  }
}

module endpoints 'endpoint.bicep' = [for item in (isPrivate ? parts : []): {
  name: 'endpoint-${item.account}-${item.part}'
  params: {
    name: 'pep-${item.account}-${item.part}'
    location: location
    tags: tags
    targetId: resourceId(item.group, 'Microsoft.Storage/storageAccounts', item.account)
    groupId: item.part
    subnetId: endpointsSubnetId
    zoneId: zoneIds[item.part]
  }
  dependsOn: [
    frontHost
    handsHost
    records
    anchors
  ]
}]

output front string = frontHost.outputs.name
output hands string = handsHost.outputs.name
output records string = records.outputs.name
output recordsId string = records.outputs.id
output anchors string = anchors.outputs.name
