// The alert rules on logs (infra/alerts.json); the one on lost events stands with its topic.
param location string
param tags object = {}
param workspaceId string
param actionGroupId string

var lines = 'let L = AppTraces | where Message startswith "{" | extend r = parse_json(Message), e = tostring(parse_json(Message).event); '
var rules = loadJsonContent('../alerts.json')

resource rule 'Microsoft.Insights/scheduledQueryRules@2026-03-01' = [for item in rules: {
  name: 'guardrail-${item.name}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: 'Guardrail: ${item.title}'
    description: item.why
    severity: item.severity
    enabled: true
    scopes: [
      workspaceId
    ]
    evaluationFrequency: item.frequency
    windowSize: item.window
    criteria: {
      allOf: [
        {
          query: '${lines}${item.query}'
          timeAggregation: 'Count'
          operator: item.operator
          threshold: item.threshold
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    autoMitigate: true
    actions: {
      actionGroups: [
        actionGroupId
      ]
    }
  }
}]
