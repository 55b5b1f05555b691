// Roles on single keys and secrets of one vault: {key or secret, principalId, role}.
param vault string
param keys array
param secrets array

resource key 'Microsoft.KeyVault/vaults/keys@2026-02-01' existing = [for item in keys: {
  name: '${vault}/${item.key}'
}]

resource onKeys 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for (item, i) in keys: {
  name: guid(key[i].id, item.principalId, item.role)
  scope: key[i]
  properties: {
    principalId: item.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', item.role)
  }
}]

resource secret 'Microsoft.KeyVault/vaults/secrets@2026-02-01' existing = [for item in secrets: {
  name: '${vault}/${item.secret}'
}]

resource onSecrets 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for (item, i) in secrets: {
  name: guid(secret[i].id, item.principalId, item.role)
  scope: secret[i]
  properties: {
    principalId: item.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', item.role)
  }
}]
