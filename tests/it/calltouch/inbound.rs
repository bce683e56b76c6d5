//! The way in, without a server: the connector that comes with the product, a connection's settings, and a payload.

use std::{fs, path::Path, sync::Arc};

use sheaf_bundles::{
    catalog::Catalog,
    compile,
    diagnostic::render,
    event::{Event, Received},
    hook::Hook,
    id::EventId,
    plan::{Next, Plan, Verdict},
    request::Request,
    run::RunState,
    value::Value,
    words::Language,
};
use sheaf_connectors::decode::{Decoded, decode};
use sheaf_tests::calltouch::{Method, Payload, Spaces};

/// A connection to Calltouch, with the bundles that use it.
pub struct Inbound {
    hook: Arc<Hook>,
    plans: Vec<Arc<Plan>>,
}

impl Inbound {
    /// With these lines added to the connection.
    pub fn with(lines: &str) -> Inbound {
        let connection = format!("kind: connection\nname: calltouch-main\nconnector: calltouch\n{lines}\n");
        let workspace = "kind: workspace\nname: test\ntime_zone: Europe/Moscow\n";
        let files = [
            ("sheaf.yaml".to_owned(), workspace.as_bytes().to_vec()),
            ("connections/calltouch-main.yaml".to_owned(), connection.into_bytes()),
        ];
        Inbound::compile(&files)
    }

    /// As one of the examples has it.
    pub fn example(name: &str) -> Inbound {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
        let mut files = Vec::new();
        for folder in ["", "connections", "bundles"] {
            for entry in fs::read_dir(root.join(folder)).expect("a folder of the example") {
                let path = entry.expect("an entry").path();
                if path.extension().is_some_and(|it| it == "yaml")
                    && path.file_name().is_some_and(|it| it != "expected.yaml")
                {
                    let below = path.strip_prefix(&root).expect("below it").to_string_lossy().into_owned();
                    files.push((below, fs::read(&path).expect("a file")));
                }
            }
        }
        files.sort();
        Inbound::compile(&files)
    }

    fn compile(files: &[(String, Vec<u8>)]) -> Inbound {
        let (catalog, _, problems) = Catalog::load(sheaf_connectors::builtin());
        assert!(!problems.has_errors(), "the built-in connectors are sound");
        let (integration, sources, problems) = compile::compile(files, &catalog);
        assert!(!problems.has_errors(), "{}", render::text(&sources, &problems, Language::En, false));
        let integration = integration.expect("sound files compile");
        let hook = integration
            .hooks
            .iter()
            .find(|it| it.connection.name == "calltouch-main")
            .expect("it has a hook");
        Inbound { hook: Arc::clone(hook), plans: integration.plans.clone() }
    }

    /// The decoded fields as JSON.
    pub fn fields(&self, payload: &Payload, method: Method, spaces: Spaces) -> serde_json::Value {
        let decoded = self.decode(payload, method, spaces);
        assert!(decoded.notes.is_empty(), "{:?}", decoded.notes);
        serde_json::to_value(Value::from(decoded.fields)).expect("fields are JSON")
    }

    /// What makes the event itself.
    pub fn identity(&self, payload: &Payload, method: Method) -> Option<[u64; 2]> {
        self.decode(payload, method, Spaces::Percent).dedupe
    }

    /// Names of the triggers it fires.
    pub fn triggers(&self, payload: &Payload, method: Method) -> Vec<String> {
        self.hook.triggers(&self.event(payload, method)).iter().map(ToString::to_string).collect()
    }

    /// The first request of every bundle that takes it.
    pub fn requests(&self, payload: &Payload, method: Method) -> Vec<Request> {
        let event = Arc::new(self.event(payload, method));
        let mut requests = Vec::new();
        for plan in &self.plans {
            match (plan.decide(&event), plan.next(&RunState::new(Arc::clone(&event), 0))) {
                (Verdict::Take { .. }, Next::Send { request, .. }) => requests.push(request),
                (Verdict::Take { .. }, next @ (Next::Done | Next::Ask { .. } | Next::Fail { .. })) => {
                    panic!("{}: {next:?}", plan.bundle)
                }
                (Verdict::Filtered | Verdict::NotFired, _) => {}
            }
        }
        requests
    }

    /// What a field may hold when it has no value: the empty text, and the words of its manifest.
    pub fn words(&self, field: &str) -> Vec<String> {
        let declared =
            self.no_value_words().into_iter().find(|(name, _)| name == field).map(|(_, words)| words);
        std::iter::once(String::new()).chain(declared.expect("its manifest declares some")).collect()
    }

    /// The words each field's manifest declares for "no value".
    pub fn no_value_words(&self) -> Vec<(String, Vec<String>)> {
        let fields = self.hook.fields.iter().map(|it| &it.field);
        fields.filter(|it| !it.no_value.is_empty()).map(|it| (it.name.clone(), it.no_value.clone())).collect()
    }

    fn event(&self, payload: &Payload, method: Method) -> Event {
        let fields = self.decode(payload, method, Spaces::Percent).fields;
        // An id for each call, so that each has its own idempotency keys.
        let id = payload.get("id").and_then(|it| it.parse().ok()).unwrap_or(1);
        Event { id: EventId(id), connection: "calltouch-main".into(), received_ms: 0, fields }
    }

    fn decode(&self, payload: &Payload, method: Method, spaces: Spaces) -> Decoded {
        let encoded = payload.encode(spaces);
        let form = ("content-type".into(), "application/x-www-form-urlencoded".into());
        let (name, query, headers, body) = match method {
            Method::Post => ("POST", String::new(), vec![form], encoded.into_bytes()),
            Method::Get => ("GET", encoded, Vec::new(), Vec::new()),
        };
        let received = Received {
            method: name.into(),
            query: query.into(),
            headers,
            body,
            source: None,
            received_ms: 0,
        };
        decode(&self.hook, &received).expect("it can be read")
    }
}
