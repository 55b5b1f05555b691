// One app on a plan of its own (Flex Consumption has no slots, so no second version drains the queue), as tight as both are.
param name string
param location string
param tags object = {}

@description('front or hands: what azd deploys to, and which functions the package registers.')
@allowed([
  'front'
  'hands'
])
param part string

@description('The account of its host and its package; nobody else has a role on it.')
param hostAccount string

param subnetId string

@description('False: no request reaches it from outside, neither to its functions nor to where packages are published.')
param isPublic bool

param insightsConnection string

@description('GUARDRAIL_ settings and connections of this part.')
param settings object

@description('The address of the console; empty: this app is the console, at its own.')
param url string = ''

var blob = 'https://${hostAccount}.blob.${environment().suffixes.storage}/'

var doors = [
  'ftp'
  'scm'
]

resource plan 'Microsoft.Web/serverfarms@2025-03-01' = {
  name: 'plan-${name}'
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  properties: {
    reserved: true
  }
}

resource site 'Microsoft.Web/sites@2025-03-01' = {
  name: name
  location: location
  tags: union(tags, {
    'azd-service-name': part
  })
  kind: 'functionapp,linux'
  identity: {
    type: 'SystemAssigned'
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    clientAffinityEnabled: false
    publicNetworkAccess: isPublic ? 'Enabled' : 'Disabled'
    virtualNetworkSubnetId: subnetId
    // The published types do not know it; functions-app-settings of the documentation does. No host key runs a function
    functionsRuntimeAdminIsolationEnabled: true
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${blob}package'
          authentication: {
            type: 'SystemAssignedIdentity'
          }
        }
      }
      runtime: {
        name: 'python'
        version: '3.13'
      }
      scaleAndConcurrency: {
        instanceMemoryMB: 2048
        maximumInstanceCount: 40
      }
    }
    siteConfig: {
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      ftpsState: 'Disabled'
      http20Enabled: true
      remoteDebuggingEnabled: false
      webSocketsEnabled: false
      cors: {
        allowedOrigins: []
        supportCredentials: false
      }
      ipSecurityRestrictionsDefaultAction: isPublic ? 'Allow' : 'Deny'
      scmIpSecurityRestrictionsDefaultAction: 'Deny'
      scmIpSecurityRestrictionsUseMain: false
    }
  }
}

resource noPassword 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2025-03-01' = [for item in doors: {
  parent: site
  name: item
  properties: {
    allow: false
  }
}]

resource appSettings 'Microsoft.Web/sites/config@2025-03-01' = {
  parent: site
  name: 'appsettings'
  properties: union({
    AzureFunctionsWebHost__hostid: take('${part}-${uniqueString(site.id)}', 32)
    AzureWebJobsStorage__blobServiceUri: blob
    AzureWebJobsStorage__queueServiceUri: 'https://${hostAccount}.queue.${environment().suffixes.storage}/'
    AzureWebJobsStorage__tableServiceUri: 'https://${hostAccount}.table.${environment().suffixes.storage}/'
    AzureWebJobsStorage__credential: 'managedidentity'
    APPLICATIONINSIGHTS_CONNECTION_STRING: insightsConnection
    APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'Authorization=AAD'
    GUARDRAIL_PART: part
    GUARDRAIL_URL: empty(url) ? 'https://${site.properties.defaultHostName}' : url
  }, settings)
}

output id string = site.id
output name string = site.name
output principalId string = site.identity.principalId
output url string = 'https://${site.properties.defaultHostName}'
