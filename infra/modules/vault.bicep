// The vault: keys that never leave it. Two sign, each app's own, what the other verifies; one encrypts what we store, and the
// identity here is how storage comes to it. Beside the anchors, since it must outlive the apps: without it nobody reads or verifies.
param name string
param location string
param tags object = {}
param token string
param isPrivate bool
param appsSubnetId string
param workspaceId string

// The documentation's built-in role: wraps and unwraps with one key
var encryptionUser = 'e147488a-f6f5-4113-8e2d-b22465e65bf6'
var url = 'https://${name}${environment().suffixes.keyvaultDns}'
var keyNames = [
  'front-key'
  'hands-key'
]

resource vault 'Microsoft.KeyVault/vaults@2026-02-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    tenantId: tenant().tenantId
    sku: {
      family: 'A'
      name: 'standard'
    }
    enableRbacAuthorization: true
    enableSoftDelete: true
    softDeleteRetentionInDays: 90
    enablePurgeProtection: true
    enabledForDeployment: false
    enabledForDiskEncryption: false
    enabledForTemplateDeployment: false
    publicNetworkAccess: isPrivate ? 'Disabled' : 'Enabled'
    networkAcls: {
      bypass: 'AzureServices' // storage unwraps its keys from networks of its own
      defaultAction: 'Deny'
      ipRules: []
      virtualNetworkRules: isPrivate ? [] : [
        {
          id: appsSubnetId
        }
      ]
    }
  }
}

resource keys 'Microsoft.KeyVault/vaults/keys@2026-02-01' = [for item in keyNames: {
  // checkov:skip=CKV_AZURE_112: neither kind lets the key out; a hardware one costs a premium vault
  // checkov:skip=CKV_AZURE_40: an expired key would stop every decision, and old signatures must verify for ever
  parent: vault
  name: item
  tags: tags
  properties: {
    kty: 'EC'
    curveName: 'P-256'
    keyOps: [
      'sign'
      'verify'
    ]
  }
}]

resource storageKey 'Microsoft.KeyVault/vaults/keys@2026-02-01' = {
  // checkov:skip=CKV_AZURE_112: a hardware one costs a premium vault; parameters could ask for both
  // checkov:skip=CKV_AZURE_40: what an expired key encrypted could not be read; it is rotated instead
  parent: vault
  name: 'storage-key'
  tags: tags
  properties: {
    kty: 'RSA'
    keySize: 3072
    keyOps: [
      'wrapKey'
      'unwrapKey'
    ]
    rotationPolicy: {
      lifetimeActions: [
        {
          trigger: {
            timeAfterCreate: 'P1Y'
          }
          action: {
            type: 'rotate'
          }
        }
      ]
    }
  }
}

resource storageIdentity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: 'id-guardrail-storage-${token}'
  location: location
  tags: tags
}

resource onStorageKey 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(storageKey.id, storageIdentity.id, encryptionUser)
  scope: storageKey
  properties: {
    principalId: storageIdentity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', encryptionUser)
  }
}

resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'guardrail-logs'
  scope: vault
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        categoryGroup: 'audit'
        enabled: true
      }
    ]
  }
}

output id string = vault.id
output name string = vault.name
output url string = url

@description('With what accounts encrypt: no version, so that they follow the rotation.')
output encryption object = {
  vaultUri: url
  keyName: storageKey.name
  identityId: storageIdentity.id
}
