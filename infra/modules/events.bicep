// The event subscription on a system topic: what is heard (infra/filters.json), where it goes, and an alert when any is lost.
param topic string
param tags object = {}
param installation string

@description('The account whose queue and container take events and dead letters.')
param recordsId string

@description('queue: by the identity of the topic. function: by a web hook to front, which must be public and deployed already.')
@allowed([
  'queue'
  'function'
])
param delivery string

param frontId string
param actionGroupId string

var filters = loadJsonContent('../filters.json')
var heard = {
  includedEventTypes: filters.events
  isSubjectCaseSensitive: false
  advancedFilters: [
    {
      operatorType: 'StringBeginsWith'
      key: 'data.operationName'
      values: filters.operations
    }
  ]
}
// -1: no message runs out while nobody takes it
var forever = -1
var retry = {
  maxDeliveryAttempts: 30
  eventTimeToLiveInMinutes: 1440
}
var deadLetters = {
  identity: {
    type: 'SystemAssigned'
  }
  deadLetterDestination: {
    endpointType: 'StorageBlob'
    properties: {
      resourceId: recordsId
      blobContainerName: 'dead-letters'
    }
  }
}
var losses = [
  'DeadLetteredCount'
  'DroppedEventCount'
]

resource source 'Microsoft.EventGrid/systemTopics@2025-02-15' existing = {
  name: topic
}

resource toQueue 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2025-02-15' = if (delivery == 'queue') {
  parent: source
  name: 'guardrail-${installation}'
  properties: {
    deliveryWithResourceIdentity: {
      identity: {
        type: 'SystemAssigned'
      }
      destination: {
        endpointType: 'StorageQueue'
        properties: {
          resourceId: recordsId
          queueName: 'events'
          queueMessageTimeToLiveInSeconds: forever
        }
      }
    }
    deadLetterWithResourceIdentity: deadLetters
    eventDeliverySchema: 'EventGridSchema'
    filter: heard
    retryPolicy: retry
  }
}

resource toFunction 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2025-02-15' = if (delivery == 'function') {
  parent: source
  name: 'guardrail-${installation}-direct'
  properties: {
    destination: {
      endpointType: 'AzureFunction'
      properties: {
        resourceId: '${frontId}/functions/on_resource_change'
        maxEventsPerBatch: 1
      }
    }
    deadLetterWithResourceIdentity: deadLetters
    eventDeliverySchema: 'EventGridSchema'
    filter: heard
    retryPolicy: retry
  }
}

resource lost 'Microsoft.Insights/metricAlerts@2018-03-01' = [for item in losses: {
  name: 'guardrail-${installation}-events-lost-${item}'
  location: 'global'
  tags: tags
  properties: {
    description: 'Events lost: what Event Grid could not deliver, or dropped. The sweep finds the changes within the hour; the cause stays until it is mended.'
    severity: 1
    enabled: true
    scopes: [
      source.id
    ]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          name: item
          criterionType: 'StaticThresholdCriterion'
          metricNamespace: 'Microsoft.EventGrid/systemTopics'
          metricName: item
          timeAggregation: 'Total'
          operator: 'GreaterThan'
          threshold: 0
        }
      ]
    }
    autoMitigate: true
    actions: [
      {
        actionGroupId: actionGroupId
      }
    ]
  }
}]
