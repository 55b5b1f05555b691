// The vault: two keys that never leave it, with which each app signs what the other verifies, and the addresses of chats.
param name string
param location string
param tags object = {}
param isPrivate bool
param appsSubnetId string
param endpointsSubnetId string
param zoneIds object
param workspaceId string

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
      bypass: 'None'
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

module endpoint 'endpoint.bicep' = if (isPrivate) {
  name: 'endpoint-${name}'
  params: {
    name: 'pep-${name}'
    location: location
    tags: tags
    targetId: vault.id
    groupId: 'vault'
    subnetId: endpointsSubnetId
    zoneId: zoneIds.vault
  }
}

output name string = vault.name
output url string = 'https://${name}${environment().suffixes.keyvaultDns}'
