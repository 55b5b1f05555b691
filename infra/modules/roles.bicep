// What front and hands may do with our own accounts, keys and logs: built-in roles, on single queues, tables, containers, keys.
// Nothing here reaches what is guarded.
param accounts object
param auditGroup string
param vault string
param insights string
param frontPrincipalId string
param handsPrincipalId string
param channels array

@description('The tag writes of the probe, on this group alone; from infra/roles.json.')
param probeActions array
param probe bool
param installation string

// The documentation's built-in roles
var blobOwner = 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
var blobContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
var blobReader = '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1'
var queueContributor = '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
var queueProcessor = '8a0f0c08-91a1-4084-bc3d-661d67233fed'
var queueSender = 'c6a89b2d-59bc-44d0-9896-0f6e12d7b80a'
var tableContributor = '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
var cryptoUser = '12338af0-0e69-4776-bea7-57ae8d297424'
var vaultReader = '21090545-7ca7-4776-b22c-e363652d74d2'
var secretsUser = '4633458b-17de-408a-b874-0445c86b69e6'
var metricsPublisher = '3913510d-42f4-4e42-8a64-420c390055eb'

// The Functions host asks for Owner on its blobs (it takes leases and makes its containers), and writes events to tables
var hostGrants = [
  {
    account: accounts.front
    principalId: frontPrincipalId
    role: blobOwner
  }
  {
    account: accounts.front
    principalId: frontPrincipalId
    role: tableContributor
  }
  {
    account: accounts.hands
    principalId: handsPrincipalId
    role: blobOwner
  }
  {
    account: accounts.hands
    principalId: handsPrincipalId
    role: tableContributor
  }
]
// The host takes messages, deletes them, and puts off what failed or takes long. That is an update, which needs messages/write: the
// two roles that the documentation names for a trigger lack it, so that a failed message came back after ten minutes, not 30 seconds
var queueGrants = [
  {
    queue: 'events'
    principalId: frontPrincipalId
    role: queueContributor
  }
  {
    queue: 'events-poison'
    principalId: frontPrincipalId
    role: queueSender
  }
  {
    queue: 'looks'
    principalId: frontPrincipalId
    role: queueSender
  }
  {
    queue: 'looks'
    principalId: handsPrincipalId
    role: queueContributor
  }
  {
    queue: 'looks-poison'
    principalId: handsPrincipalId
    role: queueContributor
  }
  {
    queue: 'events-poison'
    principalId: handsPrincipalId
    role: queueProcessor
  }
  {
    queue: 'events'
    principalId: handsPrincipalId
    role: queueSender
  }
]
var tableGrants = [
  {
    table: 'cases'
    principalId: frontPrincipalId
  }
  {
    table: 'open'
    principalId: frontPrincipalId
  }
  {
    table: 'budgets'
    principalId: frontPrincipalId
  }
  {
    table: 'cases'
    principalId: handsPrincipalId
  }
  {
    table: 'open'
    principalId: handsPrincipalId
  }
  {
    table: 'budgets'
    principalId: handsPrincipalId
  }
]
// Each signs with its own key, and reads the public half of the other's
var keyGrants = [
  {
    key: 'front-key'
    principalId: frontPrincipalId
    role: cryptoUser
  }
  {
    key: 'hands-key'
    principalId: frontPrincipalId
    role: vaultReader
  }
  {
    key: 'hands-key'
    principalId: handsPrincipalId
    role: cryptoUser
  }
  {
    key: 'front-key'
    principalId: handsPrincipalId
    role: vaultReader
  }
]
var secretGrants = [for item in channels: {
  secret: 'guardrail-${item}'
  principalId: handsPrincipalId
  role: secretsUser
}]
var logWriters = [
  frontPrincipalId
  handsPrincipalId
]

resource hosts 'Microsoft.Storage/storageAccounts@2026-04-01' existing = [for item in hostGrants: {
  name: item.account
}]

resource onHosts 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for (item, i) in hostGrants: {
  name: guid(hosts[i].id, item.principalId, item.role)
  scope: hosts[i]
  properties: {
    principalId: item.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', item.role)
  }
}]

resource queues 'Microsoft.Storage/storageAccounts/queueServices/queues@2026-04-01' existing = [for item in queueGrants: {
  name: '${accounts.records}/default/${item.queue}'
}]

resource onQueues 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for (item, i) in queueGrants: {
  name: guid(queues[i].id, item.principalId, item.role)
  scope: queues[i]
  properties: {
    principalId: item.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', item.role)
  }
}]

resource tables 'Microsoft.Storage/storageAccounts/tableServices/tables@2026-04-01' existing = [for item in tableGrants: {
  name: '${accounts.records}/default/${item.table}'
}]

resource onTables 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for (item, i) in tableGrants: {
  name: guid(tables[i].id, item.principalId, tableContributor)
  scope: tables[i]
  properties: {
    principalId: item.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', tableContributor)
  }
}]

module onRecords 'containers.bicep' = {
  name: 'roles-records'
  params: {
    account: accounts.records
    grants: [
      {
        container: 'bodies'
        principalId: frontPrincipalId
        role: blobContributor
      }
      {
        container: 'bodies'
        principalId: handsPrincipalId
        role: blobContributor
      }
      {
        container: 'dead-letters'
        principalId: handsPrincipalId
        role: blobContributor
      }
    ]
  }
}

module onAnchors 'containers.bicep' = {
  name: 'roles-anchors'
  scope: resourceGroup(auditGroup)
  params: {
    account: accounts.anchors
    grants: [
      {
        container: 'anchors'
        principalId: handsPrincipalId
        role: blobContributor
      }
      {
        container: 'anchors'
        principalId: frontPrincipalId
        role: blobReader
      }
    ]
  }
}

module onVault 'vaultroles.bicep' = {
  name: 'roles-vault'
  scope: resourceGroup(auditGroup)
  params: {
    vault: vault
    keys: keyGrants
    secrets: secretGrants
  }
}

resource component 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insights
}

resource onLogs 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for item in logWriters: {
  name: guid(component.id, item, metricsPublisher)
  scope: component
  properties: {
    principalId: item
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', metricsPublisher)
  }
}]

resource tagger 'Microsoft.Authorization/roleDefinitions@2022-04-01' = if (probe) {
  name: guid(resourceGroup().id, installation, 'probe')
  properties: {
    roleName: 'Guardrail probe (${installation}, ${subscription().subscriptionId})'
    description: 'The tag that proves the event path, on the guardrail\'s own group.'
    type: 'CustomRole'
    permissions: [
      {
        actions: probeActions
        notActions: []
        dataActions: []
        notDataActions: []
      }
    ]
    assignableScopes: [
      resourceGroup().id
    ]
  }
}

resource onOwnGroup 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (probe) {
  name: guid(resourceGroup().id, handsPrincipalId, installation, 'probe')
  properties: {
    principalId: handsPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: tagger.id
  }
}
