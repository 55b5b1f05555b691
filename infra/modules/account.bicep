// One storage account, hardened: no keys, no anonymous reads, no network but ours. Everything that all accounts share stands here.
param name string
param location string
param tags object = {}

@description('What lets it in: a subnet with a service endpoint. Empty: private endpoints alone, and no public endpoint.')
param subnetId string = ''

@description('True where Event Grid delivers: a trusted service, by its identity, let in even where the public endpoint is off.')
param letsEventGridIn bool = false

@description('Locally or zone redundant, or copied to the paired region.')
param sku string = 'Standard_ZRS'

param containers array = []
param queues array = []
param tables array = []

@description('Containers whose blobs may only be appended to, for this many days from their creation. The template sets it, people lock it.')
param immutableContainers array = []
param immutableDays int = 365

@description('Containers whose blobs are deleted after 30 days.')
param shortLived array = []

@description('Of the key that it is encrypted with: vaultUri, keyName, and the identityId that may use it.')
param encryption object

param workspaceId string

@description('True: nobody deletes the account while the lock is there.')
param isLocked bool = false

resource account 'Microsoft.Storage/storageAccounts@2026-04-01' = {
  // checkov:skip=CKV_AZURE_206: three zones by default; another region is a parameter, since records may have to stay in one
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: {
    name: sku
  }
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${encryption.identityId}': {}
    }
  }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: empty(subnetId) ? 'Disabled' : 'Enabled'
    networkAcls: {
      bypass: letsEventGridIn ? 'AzureServices' : 'None'
      defaultAction: 'Deny'
      ipRules: []
      virtualNetworkRules: empty(subnetId) ? [] : [
        {
          id: subnetId
          action: 'Allow'
        }
      ]
    }
    encryption: {
      keySource: 'Microsoft.Keyvault'
      identity: {
        userAssignedIdentity: encryption.identityId
      }
      keyvaultproperties: {
        keyvaulturi: encryption.vaultUri
        keyname: encryption.keyName
      }
      requireInfrastructureEncryption: true
      services: {
        blob: {
          enabled: true
          keyType: 'Account'
        }
        table: {
          enabled: true
          keyType: 'Account'
        }
        queue: {
          enabled: true
          keyType: 'Account'
        }
      }
    }
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2026-04-01' = {
  parent: account
  name: 'default'
  properties: {
    deleteRetentionPolicy: {
      enabled: true
      days: 30
    }
    containerDeleteRetentionPolicy: {
      enabled: true
      days: 30
    }
  }
}

resource container 'Microsoft.Storage/storageAccounts/blobServices/containers@2026-04-01' = [for item in containers: {
  parent: blobs
  name: item
  properties: {
    publicAccess: 'None'
  }
}]

// A child of a container that the loop above makes
resource immutability 'Microsoft.Storage/storageAccounts/blobServices/containers/immutabilityPolicies@2026-04-01' = [for item in immutableContainers: {
  name: '${name}/default/${item}/default'
  properties: {
    immutabilityPeriodSinceCreationInDays: immutableDays
    allowProtectedAppendWrites: true
  }
  dependsOn: [
    container
  ]
}]

resource queueService 'Microsoft.Storage/storageAccounts/queueServices@2026-04-01' = if (!empty(queues)) {
  parent: account
  name: 'default'
}

resource queue 'Microsoft.Storage/storageAccounts/queueServices/queues@2026-04-01' = [for item in queues: {
  parent: queueService
  name: item
}]

resource tableService 'Microsoft.Storage/storageAccounts/tableServices@2026-04-01' = if (!empty(tables)) {
  parent: account
  name: 'default'
}

resource table 'Microsoft.Storage/storageAccounts/tableServices/tables@2026-04-01' = [for item in tables: {
  parent: tableService
  name: item
}]

resource lifecycle 'Microsoft.Storage/storageAccounts/managementPolicies@2026-04-01' = if (!empty(shortLived)) {
  parent: account
  name: 'default'
  properties: {
    policy: {
      rules: [
        {
          name: 'old-ones'
          type: 'Lifecycle'
          enabled: true
          definition: {
            filters: {
              blobTypes: [
                'blockBlob'
              ]
              prefixMatch: shortLived
            }
            actions: {
              baseBlob: {
                delete: {
                  daysAfterModificationGreaterThan: 30
                }
              }
            }
          }
        }
      ]
    }
  }
}

// Who read or wrote it, our own identities too: a stranger among them is what one looks for
resource blobLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'guardrail-logs'
  scope: blobs
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        category: 'StorageRead'
        enabled: true
      }
      {
        category: 'StorageWrite'
        enabled: true
      }
      {
        category: 'StorageDelete'
        enabled: true
      }
    ]
  }
}

resource tableLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (!empty(tables)) {
  name: 'guardrail-logs'
  scope: tableService
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        category: 'StorageWrite'
        enabled: true
      }
      {
        category: 'StorageDelete'
        enabled: true
      }
    ]
  }
}

resource lock 'Microsoft.Authorization/locks@2020-05-01' = if (isLocked) {
  name: 'guardrail-keep'
  scope: account
  properties: {
    level: 'CanNotDelete'
    notes: 'The anchors prove that the records were not rewritten. docs/how-to/remove.md says how to remove this.'
  }
}

output id string = account.id
output name string = account.name
