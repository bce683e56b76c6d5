//! A workspace made for one case: a connection of the connector, and where an action is tried, a bundle around it.

use std::sync::LazyLock;

use sheaf_bundles::{
    catalog::Catalog,
    compile::{Integration, compile},
    diagnostic::render,
    json,
    value::Value,
    words::Language,
    yaml::Node,
};

static CATALOG: LazyLock<Catalog> = LazyLock::new(|| sheaf_connectors::catalog::<&str, &[u8]>(&[]).0);

pub struct Workspace {
    pub integration: Integration,
}

impl Workspace {
    /// A connection through which events come.
    pub fn receiving(name: &str, connector: &str, settings: Option<&Node>) -> Workspace {
        Workspace::of(name, &[("connections/under-test.yaml", connection("under-test", connector, settings))])
    }

    /// The same with settings as YAML.
    pub fn with_settings(name: &str, connector: &str, settings: &str) -> Workspace {
        let connection =
            format!("kind: connection\nname: under-test\nconnector: {connector}\nsettings: {settings}\n");
        Workspace::of(name, &[("connections/under-test.yaml", connection)])
    }

    /// A connection, and a bundle that calls one action of it for every event of a webhook.
    pub fn sending(
        name: &str,
        connector: &str,
        settings: Option<&Node>,
        action: &str,
        with: &Node,
    ) -> Workspace {
        let with = json::to_text(&with.to_value());
        let bundle = format!(
            "kind: bundle\nname: under-test\ntitle: Under test\nactive: true\non: {{connection: source, trigger: received}}\n\
             steps:\n  - name: send\n    action: {connector}.{action}\n    connection: under-test\n    with: {with}\n"
        );
        Workspace::of(
            name,
            &[
                ("connections/source.yaml", connection("source", "webhook", None)),
                ("connections/under-test.yaml", connection("under-test", connector, settings)),
                ("bundles/under-test.yaml", bundle),
            ],
        )
    }

    /// These files beside a `sheaf.yaml`.
    pub fn of(name: &str, files: &[(&str, String)]) -> Workspace {
        let workspace = ("sheaf.yaml", "kind: workspace\nname: cases\ntime_zone: Europe/Moscow\n".to_owned());
        let all = std::iter::once(&workspace).chain(files);
        let files: Vec<(&str, &[u8])> = all.map(|(path, text)| (*path, text.as_bytes())).collect();
        let (integration, sources, problems) = compile(&files, &CATALOG);
        assert!(!problems.has_errors(), "{name}\n{}", render::text(&sources, &problems, Language::En, false));
        Workspace { integration: integration.expect("no errors, so an integration") }
    }
}

fn connection(name: &str, connector: &str, settings: Option<&Node>) -> String {
    let settings = settings.map_or(Value::Object(Default::default()), Node::to_value);
    let secrets: Vec<String> = secrets(connector)
        .iter()
        .map(|secret| format!("{secret}: {{env: {}}}", secret.to_uppercase()))
        .collect();
    format!(
        "kind: connection\nname: {name}\nconnector: {connector}\nsettings: {}\nsecrets: {{{}}}\n",
        json::to_text(&settings),
        secrets.join(", ")
    )
}

/// The names of the secrets a connector can have.
fn secrets(connector: &str) -> Vec<String> {
    let connector = CATALOG.get(connector).expect("a built-in connector");
    connector.manifest.secrets.iter().map(|secret| secret.name.clone()).collect()
}
