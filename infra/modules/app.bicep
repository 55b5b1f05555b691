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

resource plan 'Microsoft.Web/serverfarms@2025-03-01' = {
  // checkov:skip=CKV_AZURE_225: zone redundancy keeps two instances running all day; what an outage delays, the next sweep finds
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
  // checkov:skip=CKV_AZURE_222: off for hands; for front it is the console's choice, and asks for a token
  // checkov:skip=CKV_AZURE_17: people sign in by Entra ID, not by certificate
  // checkov:skip=CKV_AZURE_212: Flex Consumption scales by itself and takes no number of workers
  // checkov:skip=CKV_AZURE_213: Flex Consumption has no health check
  // checkov:skip=CKV_AZURE_78: Flex Consumption has no FTP, and newer regions refuse a site that names ftpsState (error 51021)
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

resource noPasswordFtp 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2025-03-01' = {
  parent: site
  name: 'ftp'
  properties: {
    allow: false
  }
}

resource noPasswordScm 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2025-03-01' = {
  parent: site
  name: 'scm'
  properties: {
    allow: false
  }
}

resource appSettings 'Microsoft.Web/sites/config@2025-03-01' = {
  // These are app settings; the checks look for what stands in the site's own configuration, or for what Functions does not have
  // checkov:skip=CKV_AZURE_66: no failed request tracing in Functions; Application Insights has each request
  // checkov:skip=CKV_AZURE_63: as before
  // checkov:skip=CKV_AZURE_65: no page of errors in Functions; an error shown is a leak
  // checkov:skip=CKV_AZURE_222: said at the site
  // checkov:skip=CKV_AZURE_80: Python
  // checkov:skip=CKV_AZURE_13: the app verifies the token itself and trusts no header of a proxy (threats D5)
  // checkov:skip=CKV_AZURE_88: no file share: shares need keys
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
