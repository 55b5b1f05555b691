// The alert rules on logs (infra/alerts.json); the one on lost events stands with its topic.
param location string
param tags object = {}
param workspaceId string
param actionGroupId string

// A table is there from its first line on: until then the empty one stands for it, so that a rule can be made and silence is seen
var lines = 'let L = union isfuzzy=true AppTraces, (datatable(TimeGenerated: datetime, Message: string) []) | where Message startswith "{" | extend r = parse_json(Message), e = tostring(parse_json(Message).event); '
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
