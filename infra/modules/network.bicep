// The network that both apps leave by, and where the private endpoints stand.
param name string
param location string
param tags object = {}
param addressPrefix string = '10.90.0.0/24'
param appsPrefix string = '10.90.0.0/26'
param endpointsPrefix string = '10.90.0.64/26'

@description('True: private endpoints and their zones. False: service endpoints of the one subnet, which cost nothing.')
param isPrivate bool

@description('True: the console has a private endpoint, whatever the rest has.')
param isConsolePrivate bool

@description('azure: to Azure alone. https: anywhere by TCP 443, which Slack and foreign webhooks need.')
@allowed([
  'azure'
  'https'
])
param outbound string

param workspaceId string

var zoneNames = [
  'privatelink.blob.${environment().suffixes.storage}'
  'privatelink.queue.${environment().suffixes.storage}'
  'privatelink.table.${environment().suffixes.storage}'
  concat('privatelink', replace(environment().suffixes.keyvaultDns, '.vault.', '.vaultcore.'))
  'privatelink.azurewebsites.net'
]
var zonesMade = isPrivate ? zoneNames : isConsolePrivate ? [
  zoneNames[4]
] : []
var tagsAllowed = concat([
  'VirtualNetwork'
  'AzureCloud'
  'AzureActiveDirectory'
  'AzureFrontDoor.FirstParty'
], (outbound == 'https') ? [
  'Internet'
] : [])
var allowed = [for (item, i) in tagsAllowed: {
  name: format('allow-{0}', replace(item, '.', '-'))
  properties: {
    access: 'Allow'
    direction: 'Outbound'
    priority: 100 + i
    protocol: 'Tcp'
    sourceAddressPrefix: '*'
    sourcePortRange: '*'
    destinationAddressPrefix: item
    destinationPortRange: '443'
  }
}]

resource rules 'Microsoft.Network/networkSecurityGroups@2025-09-01' = {
  name: '${name}-apps'
  location: location
  tags: tags
  properties: {
    securityRules: concat(allowed, [
      {
        name: 'deny-all-inbound'
        properties: {
          description: 'Whoever calls front comes by its public or private address, never through this subnet.'
          access: 'Deny'
          direction: 'Inbound'
          priority: 4000
          protocol: '*'
          sourceAddressPrefix: 'Internet'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '*'
        }
      }
      {
        name: 'deny-all-outbound'
        properties: {
          description: 'What no other rule allows.'
          access: 'Deny'
          direction: 'Outbound'
          priority: 4000
          protocol: '*'
          sourceAddressPrefix: '*'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '*'
        }
      }
    ])
  }
}

resource ruleLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'guardrail-logs'
  scope: rules
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        categoryGroup: 'allLogs'
        enabled: true
      }
    ]
  }
}

resource network 'Microsoft.Network/virtualNetworks@2025-09-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    addressSpace: {
      addressPrefixes: [
        addressPrefix
      ]
    }
    subnets: [
      {
        name: 'apps'
        properties: {
          addressPrefix: appsPrefix
          networkSecurityGroup: {
            id: rules.id
          }
          delegations: [
            {
              name: 'flex'
              properties: {
                serviceName: 'Microsoft.App/environments'
              }
            }
          ]
          serviceEndpoints: isPrivate ? [] : [
            {
              service: 'Microsoft.Storage'
            }
            {
              service: 'Microsoft.KeyVault'
            }
          ]
        }
      }
      {
        name: 'endpoints'
        properties: {
          addressPrefix: endpointsPrefix
          networkSecurityGroup: {
            id: rules.id
          }
          privateEndpointNetworkPolicies: 'Disabled'
        }
      }
    ]
  }
}

resource zones 'Microsoft.Network/privateDnsZones@2024-06-01' = [for item in zonesMade: {
  name: item
  location: 'global'
  tags: tags
}]

resource links 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [for (item, i) in zonesMade: {
  parent: zones[i]
  name: name
  location: 'global'
  properties: {
    registrationEnabled: false
    virtualNetwork: {
      id: network.id
    }
  }
}]

output appsSubnetId string = '${network.id}/subnets/apps'
output endpointsSubnetId string = '${network.id}/subnets/endpoints'

@description('Ids of the private zones, by what they are for; each is there only where an endpoint needs it.')
output zoneIds object = {
  blob: resourceId('Microsoft.Network/privateDnsZones', zoneNames[0])
  queue: resourceId('Microsoft.Network/privateDnsZones', zoneNames[1])
  table: resourceId('Microsoft.Network/privateDnsZones', zoneNames[2])
  vault: resourceId('Microsoft.Network/privateDnsZones', zoneNames[3])
  sites: resourceId('Microsoft.Network/privateDnsZones', zoneNames[4])
}
