// Where logs go, who is told, and what shows them: workspace, Application Insights without keys, action group, workbook.
param location string
param tags object = {}
param token string
param retentionDays int = 90

@description('Addresses that alerts are mailed to.')
param emails array

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-07-01' = {
  name: 'log-guardrail-${token}'
  location: location
  tags: tags
  properties: {
    sku: {
      name: 'PerGB2018'
    }
    retentionInDays: retentionDays
    features: {
      disableLocalAuth: true
      enableLogAccessUsingOnlyResourcePermissions: true
    }
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: 'appi-guardrail-${token}'
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspace.id
    IngestionMode: 'LogAnalytics'
    DisableLocalAuth: true
    SamplingPercentage: 100
  }
}

resource people 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: 'ag-guardrail-${token}'
  location: 'global'
  tags: tags
  properties: {
    groupShortName: 'guardrail'
    enabled: true
    emailReceivers: [for (item, i) in emails: {
      name: 'mail-${i}'
      emailAddress: item
      useCommonAlertSchema: true
    }]
  }
}

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(resourceGroup().id, 'guardrail')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'Guardrail'
    category: 'workbook'
    sourceId: workspace.id
    serializedData: loadTextContent('../workbook.json')
  }
}

module alerts 'alerts.bicep' = {
  name: 'alerts'
  params: {
    location: location
    tags: tags
    workspaceId: workspace.id
    actionGroupId: people.id
  }
}

output workspaceId string = workspace.id
output insightsName string = insights.name

@description('An address, no secret: without keys it lets nobody in.')
output insightsConnection string = insights.properties.ConnectionString
output actionGroupId string = people.id
