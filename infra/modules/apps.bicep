// Two apps from one package: front faces people and holds no power, hands holds the power and faces nobody.
param location string
param tags object = {}
param token string
param accounts object
param subnetId string
param insightsConnection string

@description('public: the console is reachable, and asks for a token. private: by its private endpoint only.')
@allowed([
  'public'
  'private'
])
param consoleAccess string

param endpointsSubnetId string
param zoneIds object

@description('What no decision goes above.')
@allowed([
  'report'
  'approve'
  'enforce'
])
param ceiling string

param subscriptions array
param managementGroups string
param vaultUrl string
param audience string
param approvers string
param probe bool

@description('Channels whose secret stands in the vault as guardrail-<channel>: teams, slack, webhook-key.')
param channels array
param webhook string
param messageTopic string

// Ids, which hands reads itself: on Flex Consumption a reference does not reach a vault that is closed
var secrets = '${vaultUrl}/secrets/guardrail-'
var storageSuffix = environment().suffixes.storage
var both = {
  Work__queueServiceUri: 'https://${accounts.records}.queue.${storageSuffix}/'
  Work__credential: 'managedidentity'
  GUARDRAIL_CEILING: ceiling
  GUARDRAIL_SUBSCRIPTIONS: join(subscriptions, ',')
  GUARDRAIL_TENANT: tenant().tenantId
  GUARDRAIL_GROUP: resourceGroup().id
  GUARDRAIL_CLOUD: environment().name
  GUARDRAIL_STORE: 'https://${accounts.records}.table.${storageSuffix}'
  GUARDRAIL_FRONT_KEY: '${vaultUrl}/keys/front-key'
  GUARDRAIL_HANDS_KEY: '${vaultUrl}/keys/hands-key'
  GUARDRAIL_ANCHORS: 'https://${accounts.anchors}.blob.${storageSuffix}/anchors'
}

module front 'app.bicep' = {
  name: 'app-front'
  params: {
    name: 'func-guardrail-front-${token}'
    location: location
    tags: tags
    part: 'front'
    hostAccount: accounts.front
    subnetId: subnetId
    isPublic: (consoleAccess == 'public')
    insightsConnection: insightsConnection
    settings: union(both, {
      GUARDRAIL_AUDIENCE: audience
      GUARDRAIL_APPROVERS: approvers
    })
  }
}

module hands 'app.bicep' = {
  name: 'app-hands'
  params: {
    name: 'func-guardrail-hands-${token}'
    location: location
    tags: tags
    part: 'hands'
    hostAccount: accounts.hands
    subnetId: subnetId
    isPublic: false
    insightsConnection: insightsConnection
    url: front.outputs.url
    settings: union(both, {
      GUARDRAIL_MANAGEMENT_GROUPS: managementGroups
      GUARDRAIL_DEAD_LETTERS: 'https://${accounts.records}.blob.${storageSuffix}/dead-letters'
      GUARDRAIL_PROBE: probe ? 'on' : 'off'
      GUARDRAIL_TEAMS: contains(channels, 'teams') ? '${secrets}teams' : ''
      GUARDRAIL_SLACK: contains(channels, 'slack') ? '${secrets}slack' : ''
      GUARDRAIL_WEBHOOK: webhook
      GUARDRAIL_TOPIC: messageTopic
      GUARDRAIL_WEBHOOK_KEY: contains(channels, 'webhook-key') ? '${secrets}webhook-key' : ''
    })
  }
}

module endpoint 'endpoint.bicep' = if (consoleAccess == 'private') {
  name: 'endpoint-front'
  params: {
    name: 'pep-func-guardrail-front-${token}'
    location: location
    tags: tags
    targetId: front.outputs.id
    groupId: 'sites'
    subnetId: endpointsSubnetId
    zoneId: zoneIds.sites
  }
}

output frontId string = front.outputs.id
output frontName string = front.outputs.name
output frontPrincipalId string = front.outputs.principalId
output handsName string = hands.outputs.name
output handsPrincipalId string = hands.outputs.principalId
output url string = front.outputs.url
