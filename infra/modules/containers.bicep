// Roles on single containers of one account: `grants` holds {container, principalId, role}.
param account string
param grants array

resource containers 'Microsoft.Storage/storageAccounts/blobServices/containers@2026-04-01' existing = [for item in grants: {
  name: '${account}/default/${item.container}'
}]

resource assignments 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for (item, i) in grants: {
  name: guid(containers[i].id, item.principalId, item.role)
  scope: containers[i]
  properties: {
    principalId: item.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', item.role)
  }
}]
