// The system topic of this subscription. Azure allows one: where another product made it, that one is used as it is.
param name string
param tags object = {}

@description('True: a topic of this name stands here already and is left as it is. It needs a system-assigned identity.')
param exists bool

resource found 'Microsoft.EventGrid/systemTopics@2025-02-15' existing = {
  name: name
}

resource made 'Microsoft.EventGrid/systemTopics@2025-02-15' = if (!exists) {
  name: name
  location: 'global'
  tags: tags
  identity: {
    type: 'SystemAssigned'
  }
  properties: {
    source: subscription().id
    topicType: 'Microsoft.Resources.Subscriptions'
  }
}

output id string = found.id
output principalId string = exists ? found.identity.principalId : made.identity.principalId
