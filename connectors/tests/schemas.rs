//! Every connector's connection, triggers and actions have a schema in `ui-schema/`; that the committed files are these very
//! ones is held by the repository's own tests.

use sheaf_bundles::{catalog::Catalog, schema::documents};

#[test]
fn every_connector_has_a_schema_of_its_connection_triggers_and_actions() {
    let (catalog, _, _) = Catalog::load(sheaf_connectors::builtin());
    let paths: Vec<String> = documents(&catalog).into_iter().map(|(path, _)| path).collect();
    for connector in catalog.iter() {
        let manifest = &connector.manifest;
        let folder = format!("connectors/{}", manifest.name);
        assert!(paths.contains(&format!("{folder}/connection.json")), "{folder}");
        for trigger in &manifest.triggers {
            assert!(
                paths.contains(&format!("{folder}/triggers/{}.json", trigger.name)),
                "{folder} {}",
                trigger.name
            );
        }
        for action in &manifest.actions {
            assert!(
                paths.contains(&format!("{folder}/actions/{}.json", action.name)),
                "{folder} {}",
                action.name
            );
        }
    }
}
