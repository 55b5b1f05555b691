// The whole guardrail in its own two groups, and what it needs in each guarded subscription. docs/tutorials/first-deployment.md
targetScope = 'subscription'

@description('Name of the environment: part of all names.')
@minLength(1)
@maxLength(20)
param environmentName string

@minLength(1)
param location string

@description('Ids of the guarded subscriptions, comma-separated; empty: this one.')
param guardedSubscriptions string = ''

@description('Names of guarded management groups, comma-separated: read by the sweep, see managementgroup.bicep.')
param managementGroups string = ''

@description('Ids of system topics that guarded subscriptions have already, comma-separated. Azure allows one a subscription.')
param existingTopics string = ''

@description('Actions of roles.json that Azure does not publish, comma-separated: a role that names one is refused. preprovision.sh finds them.')
param unknownActions string = ''

@description('What no decision goes above. report: no role is assigned that writes to anything guarded.')
@allowed([
  'report'
  'approve'
  'enforce'
])
param ceiling string = 'report'

@description('Application id URI of the console: what tokens must be for.')
@minLength(1)
param audience string

@description('Object id of the group that approves; empty: nobody can.')
param approvers string = ''

@allowed([
  'public'
  'private'
])
param consoleAccess string = 'public'

@description('private: private endpoints, no public endpoint but the queue of events. service: service endpoints, which cost nothing.')
@allowed([
  'private'
  'service'
])
param network string = 'private'

@allowed([
  'azure'
  'https'
])
param outbound string = 'azure'

@allowed([
  'queue'
  'function'
])
param delivery string = 'queue'

@description('on: a tag on our own group each 15 minutes proves the event path.')
@allowed([
  'on'
  'off'
])
param probe string = 'on'

@description('Where alerts are mailed to, comma-separated.')
param alertEmails string = ''

@description('Channels whose secret stands in the vault: teams, slack, webhook-key; comma-separated.')
param channels string = ''

@description('Your own web hook: an https address.')
param webhook string = ''

@description('Endpoint of a custom topic of yours that takes CloudEvents: our own messages.')
param messageTopic string = ''

param storageSku string = 'Standard_ZRS'

@description('Days that an anchor cannot be changed or deleted.')
@minValue(1)
@maxValue(146000)
param anchorDays int = 365

@description('Locked: people locked the retention of the anchors, and a deployment that wrote it again would be refused. preprovision.sh looks.')
param anchorsState string = ''

var token = take(uniqueString(subscription().id, environmentName, location), 10)
var tags = {
  'azd-env-name': environmentName
}
var guarded = empty(guardedSubscriptions) ? [
  subscription().subscriptionId
] : split(toLower(replace(guardedSubscriptions, ' ', '')), ',')
var topics = empty(existingTopics) ? [] : split(existingTopics, ',')
var channelNames = empty(channels) ? [] : split(channels, ',')
var actions = loadJsonContent('roles.json')

resource group 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: 'rg-guardrail-${environmentName}'
  location: location
  tags: tags
}

resource audit 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: 'rg-guardrail-${environmentName}-audit'
  location: location
  tags: tags
}

module monitor 'modules/monitor.bicep' = {
  name: 'monitor'
  scope: group
  params: {
    location: location
    tags: tags
    token: token
    emails: empty(alertEmails) ? [] : split(alertEmails, ',')
  }
}

module net 'modules/network.bicep' = {
  name: 'network'
  scope: group
  params: {
    name: 'vnet-guardrail-${token}'
    location: location
    tags: tags
    isPrivate: (network == 'private')
    isConsolePrivate: (consoleAccess == 'private')
    outbound: outbound
    workspaceId: monitor.outputs.workspaceId
  }
}

module vault 'modules/vault.bicep' = {
  name: 'vault'
  scope: audit
  params: {
    name: 'kv-guardrail-${token}'
    location: location
    tags: tags
    token: token
    isPrivate: (network == 'private')
    appsSubnetId: net.outputs.appsSubnetId
    workspaceId: monitor.outputs.workspaceId
  }
}

// Beside its network, as that of each account: what stays when this group goes may not hold on to a subnet
module vaultEndpoint 'modules/endpoint.bicep' = if (network == 'private') {
  name: 'endpoint-vault'
  scope: group
  params: {
    name: 'pep-kv-guardrail-${token}'
    location: location
    tags: tags
    targetId: vault.outputs.id
    groupId: 'vault'
    subnetId: net.outputs.endpointsSubnetId
    zoneId: net.outputs.zoneIds.vault
  }
}

module storage 'modules/storage.bicep' = {
  name: 'storage'
  scope: group
  params: {
    location: location
    tags: tags
    token: token
    auditGroup: audit.name
    sku: storageSku
    encryption: vault.outputs.encryption
    workspaceId: monitor.outputs.workspaceId
    isPrivate: (network == 'private')
    appsSubnetId: net.outputs.appsSubnetId
    endpointsSubnetId: net.outputs.endpointsSubnetId
    zoneIds: net.outputs.zoneIds
    immutableDays: anchorDays
    isLocked: (anchorsState == 'Locked')
  }
}

module apps 'modules/apps.bicep' = {
  name: 'apps'
  scope: group
  params: {
    location: location
    tags: tags
    token: token
    accounts: {
      front: storage.outputs.front
      hands: storage.outputs.hands
      records: storage.outputs.records
      anchors: storage.outputs.anchors
    }
    subnetId: net.outputs.appsSubnetId
    endpointsSubnetId: net.outputs.endpointsSubnetId
    zoneIds: net.outputs.zoneIds
    insightsConnection: monitor.outputs.insightsConnection
    consoleAccess: consoleAccess
    ceiling: ceiling
    subscriptions: guarded
    managementGroups: managementGroups
    vaultUrl: vault.outputs.url
    audience: audience
    approvers: approvers
    probe: (probe == 'on')
    channels: channelNames
    webhook: webhook
    messageTopic: messageTopic
  }
}

module roles 'modules/roles.bicep' = {
  name: 'roles'
  scope: group
  params: {
    accounts: {
      front: storage.outputs.front
      hands: storage.outputs.hands
      records: storage.outputs.records
      anchors: storage.outputs.anchors
    }
    auditGroup: audit.name
    vault: vault.outputs.name
    insights: monitor.outputs.insightsName
    frontPrincipalId: apps.outputs.frontPrincipalId
    handsPrincipalId: apps.outputs.handsPrincipalId
    channels: channelNames
    probeActions: actions.probe
    probe: (probe == 'on')
    installation: environmentName
  }
}

// Last, when everything that takes an event is there
module guard 'subscription.bicep' = [for id in guarded: {
  name: 'guardrail-${environmentName}-${take(id, 8)}'
  scope: subscription(id)
  params: {
    installation: environmentName
    location: location
    tags: tags
    group: (id == subscription().subscriptionId) ? group.name : 'rg-guardrail-${environmentName}-events'
    makesGroup: (id != subscription().subscriptionId)
    handsPrincipalId: apps.outputs.handsPrincipalId
    ceiling: ceiling
    unknownActions: empty(unknownActions) ? [] : split(toLower(unknownActions), ',')
    existingTopicId: join(filter(topics, topic => startsWith(toLower(topic), '/subscriptions/${id}/')), '')
    recordsId: storage.outputs.recordsId
    delivery: delivery
    frontId: apps.outputs.frontId
    actionGroupId: monitor.outputs.actionGroupId
  }
  dependsOn: [
    roles
  ]
}]

output GUARDRAIL_GROUP string = group.id
output GUARDRAIL_AUDIT_GROUP string = audit.name
output GUARDRAIL_FRONT string = apps.outputs.frontName
output GUARDRAIL_HANDS string = apps.outputs.handsName
output GUARDRAIL_HANDS_PRINCIPAL string = apps.outputs.handsPrincipalId
output GUARDRAIL_FRONT_ID string = apps.outputs.frontId
output GUARDRAIL_RECORDS_ID string = storage.outputs.recordsId
output GUARDRAIL_ANCHORS string = storage.outputs.anchors
output GUARDRAIL_ACTION_GROUP string = monitor.outputs.actionGroupId
output GUARDRAIL_GUARDED string = join(guarded, ',')
output GUARDRAIL_VAULT string = vault.outputs.name
output GUARDRAIL_URL string = apps.outputs.url
