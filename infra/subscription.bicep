// What one guarded subscription gets: the role of hands, exactly there, and the way of its events to our queue.
// main.bicep calls it for each; for a subscription of another team its owner deploys it alone (docs/how-to/guard-many-subscriptions.md).
targetScope = 'subscription'

@description('Tells one installation of the guardrail from another: the name of its environment.')
@minLength(1)
param installation string

param location string
param tags object = {}

@description('The group of the system topic, in this subscription.')
param group string

@description('False where the group stands already.')
param makesGroup bool = true

@description('Object id of the identity of hands: output of the main deployment.')
param handsPrincipalId string

@description('What no decision goes above. report: nothing that could change anything here is granted.')
@allowed([
  'report'
  'approve'
  'enforce'
])
param ceiling string = 'report'

@description('Actions that Azure does not publish, in lower case: a role that names one is refused (InvalidActionOrNotAction).')
param unknownActions array = []

@description('Id of the system topic that this subscription has already; empty: one is made.')
param existingTopicId string = ''

@description('Resource id of the account with the records: output of the main deployment.')
param recordsId string

@allowed([
  'queue'
  'function'
])
param delivery string = 'queue'

param frontId string = ''
param actionGroupId string

var actions = loadJsonContent('roles.json')
var topicName = empty(existingTopicId) ? 'evgt-guardrail-${installation}' : last(split(existingTopicId, '/'))
var topicGroup = empty(existingTopicId) ? group : split(existingTopicId, '/')[4]

resource reader 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(subscription().id, installation, 'reader')
  properties: {
    roleName: 'Guardrail reader (${installation}, ${subscription().subscriptionId})'
    description: 'Reads what the enabled controls look at. Generated: infra/roles.json.'
    type: 'CustomRole'
    permissions: [
      {
        actions: filter(actions.reader, action => !contains(unknownActions, toLower(action)))
        notActions: []
        dataActions: []
        notDataActions: []
      }
    ]
    assignableScopes: [
      subscription().id
    ]
  }
}

resource reads 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(subscription().id, handsPrincipalId, installation, 'reader')
  properties: {
    principalId: handsPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: reader.id
  }
}

resource remediator 'Microsoft.Authorization/roleDefinitions@2022-04-01' = if (ceiling != 'report') {
  name: guid(subscription().id, installation, 'remediator')
  properties: {
    roleName: 'Guardrail remediator (${installation}, ${subscription().subscriptionId})'
    description: 'Writes what the enabled controls put back. Generated: infra/roles.json.'
    type: 'CustomRole'
    permissions: [
      {
        actions: filter(actions.remediator, action => !contains(unknownActions, toLower(action)))
        notActions: []
        dataActions: []
        notDataActions: []
      }
    ]
    assignableScopes: [
      subscription().id
    ]
  }
}

resource writes 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (ceiling != 'report') {
  name: guid(subscription().id, handsPrincipalId, installation, 'remediator')
  properties: {
    principalId: handsPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: remediator.id
  }
}

resource own 'Microsoft.Resources/resourceGroups@2025-04-01' = if (makesGroup && empty(existingTopicId)) {
  name: group
  location: location
  tags: tags
}

module topic 'modules/topic.bicep' = {
  name: 'topic-${installation}'
  scope: resourceGroup(topicGroup)
  params: {
    name: topicName
    tags: tags
    exists: (!empty(existingTopicId))
  }
  dependsOn: [
    own
  ]
}

module rights 'modules/delivery.bicep' = {
  name: 'delivery-${installation}-${uniqueString(subscription().id)}'
  scope: resourceGroup(split(recordsId, '/')[2], split(recordsId, '/')[4])
  params: {
    account: last(split(recordsId, '/'))
    principalId: topic.outputs.principalId
  }
}

// Event Grid tries the identity when the subscription is made: a first run may be too early for the role, and is run again
module events 'modules/events.bicep' = {
  name: 'events-${installation}'
  scope: resourceGroup(topicGroup)
  params: {
    topic: topicName
    tags: tags
    installation: installation
    recordsId: recordsId
    delivery: delivery
    frontId: frontId
    actionGroupId: actionGroupId
  }
  dependsOn: [
    rights
  ]
}

output topicId string = topic.outputs.id
