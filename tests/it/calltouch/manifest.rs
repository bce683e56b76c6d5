use std::collections::BTreeSet;

use sheaf_bundles::{
    diagnostic::{Diagnostics, Sources},
    yaml::{self, Node},
};
use sheaf_tests::calltouch::{Leads, PARAMETERS, parameter};

const README: &str = include_str!("../../../connectors/catalog/calltouch/README.md");

fn manifest() -> Node {
    let (_, text) = sheaf_connectors::builtin()
        .iter()
        .find(|(path, _)| *path == "calltouch/connector.yaml")
        .expect("calltouch comes with the product");
    let text = str::from_utf8(text).expect("UTF-8");
    let mut problems = Diagnostics::default();
    let file = Sources::default().add("calltouch/connector.yaml", text);
    yaml::parse(file, text, &mut problems).expect("it is YAML")
}

fn fields(manifest: &Node) -> &[yaml::Entry] {
    manifest.get("webhook").and_then(|it| it.get("fields")).and_then(Node::as_map).expect("webhook.fields")
}

#[test]
fn the_manifest_declares_every_parameter_of_the_article_and_no_other() {
    let manifest = manifest();
    let declared: BTreeSet<&str> = fields(&manifest).iter().map(|entry| entry.key.as_str()).collect();
    let article: BTreeSet<&str> = PARAMETERS.iter().map(|parameter| parameter.name).collect();
    assert_eq!(declared, article);
}

#[test]
fn the_manifest_has_titles_in_both_languages_and_the_articles_availability() {
    let manifest = manifest();
    for entry in fields(&manifest) {
        let title =
            |language| entry.value.get("title").and_then(|it| it.get(language)).and_then(Node::as_text);
        assert!(title("en").is_some() && title("ru").is_some(), "{}", entry.key);
        let parameter = parameter(&entry.key).expect("in the article");
        let declared: Option<BTreeSet<&str>> = entry
            .value
            .get("kinds")
            .and_then(Node::as_list)
            .map(|it| it.iter().filter_map(Node::as_text).collect());
        assert_eq!(
            declared.unwrap_or_else(|| kinds(Leads::Both, true)),
            kinds(parameter.leads, parameter.at_start),
            "{}",
            entry.key
        );
    }
}

/// The kinds of event that have a parameter, by the article.
fn kinds(leads: Leads, at_start: bool) -> BTreeSet<&'static str> {
    let calls = leads != Leads::Requests;
    let kinds = [("call_start", calls && at_start), ("call_end", calls), ("request", leads != Leads::Calls)];
    kinds.into_iter().filter_map(|(kind, has)| has.then_some(kind)).collect()
}

#[test]
fn the_readme_beside_the_manifest_lists_every_parameter_in_its_table() {
    for parameter in PARAMETERS {
        let listed = README
            .lines()
            .any(|line| line.starts_with('|') && line.contains(&format!("`{}", parameter.name)));
        assert!(listed, "{}", parameter.name);
    }
}
