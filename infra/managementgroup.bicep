// For a guarded management group: hands reads at it, since changes there raise no event and only the sweep sees them.
// It never writes there: no type of ours stands at a management group.
targetScope = 'managementGroup'

@minLength(1)
param installation string

@description('Object id of the identity of hands: output of the main deployment.')
param handsPrincipalId string

@description('Actions that Azure does not publish, in lower case: a role that names one is refused (InvalidActionOrNotAction).')
param unknownActions array = []

var actions = loadJsonContent('roles.json')

resource reader 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(managementGroup().id, installation, 'reader')
  properties: {
    roleName: 'Guardrail reader (${installation}, ${managementGroup().name})'
    description: 'Reads what the enabled controls look at. Generated: infra/roles.json.'
    type: 'CustomRole'
    permissions: [
      {
        actions: filter(actions.reader, action => !contains(unknownActions, toLower(action)))
        notActions: []
        dataActions: []
        notDataActions: []
      }
    ]
    assignableScopes: [
      managementGroup().id
    ]
  }
}

resource reads 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(managementGroup().id, handsPrincipalId, installation, 'reader')
  properties: {
    principalId: handsPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: reader.id
  }
}
