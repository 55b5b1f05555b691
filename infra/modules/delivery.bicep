// What the topic's identity may do in the records' account: put messages into one queue, and dead letters into one container.
param account string
param principalId string

var queueSender = 'c6a89b2d-59bc-44d0-9896-0f6e12d7b80a'
var blobContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'

resource queue 'Microsoft.Storage/storageAccounts/queueServices/queues@2026-04-01' existing = {
  name: '${account}/default/events'
}

resource onQueue 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(queue.id, principalId, queueSender)
  scope: queue
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', queueSender)
  }
}

module deadLetters 'containers.bicep' = {
  name: 'dead-letters-${uniqueString(principalId)}'
  params: {
    account: account
    grants: [
      {
        container: 'dead-letters'
        principalId: principalId
        role: blobContributor
      }
    ]
  }
}
