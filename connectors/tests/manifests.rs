//! The connectors that come with the product are what their papers say.

use sheaf_bundles::{
    diagnostic::{Diagnostics, Sources, render},
    manifest::{Manifest, field::FieldSpec},
    types::Type,
    words::Language,
    yaml,
};

fn manifest(name: &str) -> Manifest {
    let path = format!("{name}/connector.yaml");
    let (_, bytes) =
        sheaf_connectors::builtin().iter().find(|(known, _)| *known == path).expect("a built-in connector");
    let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
    let text = std::str::from_utf8(bytes).expect("UTF-8");
    let file = sources.add(path, text);
    let node = yaml::parse(file, text, &mut out);
    let manifest = node.and_then(|node| Manifest::read(&node, &mut out));
    assert!(out.is_empty(), "{}", render::text(&sources, &out, Language::En, false));
    manifest.expect("no diagnostics, so a manifest")
}

#[test]
fn every_built_in_manifest_is_read_without_a_diagnostic() {
    for (path, _) in sheaf_connectors::builtin() {
        manifest(path.trim_end_matches("/connector.yaml"));
    }
}

/// One row of the table in Calltouch's README.
fn row(spec: &FieldSpec) -> String {
    let field = &spec.field;
    let about = match spec.kinds.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] | ["call_end", "request"] => "both",
        ["request"] => "request",
        _ => "call",
    };
    let late = !spec.kinds.is_empty() && !spec.kinds.iter().any(|kind| kind == "call_start");
    let at_start = if about == "request" {
        ""
    } else if late {
        "no"
    } else {
        "yes"
    };
    let no_value = field.no_value.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    let marks = [(field.personal, "personal"), (field.sensitive, "sensitive")];
    let marks =
        marks.iter().filter(|(marked, _)| *marked).map(|(_, mark)| *mark).collect::<Vec<_>>().join(", ");
    let name = format!("`{}`", field.name);
    let cells = [
        name.as_str(),
        about,
        &field.title.en,
        &field.title.ru,
        &type_name(&field.ty),
        at_start,
        if field.always { "yes" } else { "" },
        &no_value,
        if spec.sent_always { "" } else { "yes" },
        &marks,
    ];
    format!("| {} |", cells.join(" | "))
}

fn type_name(ty: &Type) -> String {
    let names =
        |names: Vec<&str>| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match ty {
        Type::Enum(choices) => {
            format!("enum: {}", names(choices.iter().map(|choice| choice.value.as_str()).collect()))
        }
        Type::List(items) => match &**items {
            Type::Object { fields, .. } => {
                format!(
                    "list of objects: {}",
                    names(fields.iter().map(|field| field.name.as_str()).collect())
                )
            }
            other => format!("list of {}", other.word()),
        },
        Type::Map(items) => format!("map of {}", items.word()),
        Type::Duration(_) => "duration, seconds".to_owned(),
        Type::Instant(_) => "instant, Unix seconds".to_owned(),
        other => other.word().to_owned(),
    }
}

#[test]
fn the_table_in_calltouchs_readme_is_what_its_manifest_says() {
    let readme = include_str!("../catalog/calltouch/README.md");
    let table = readme.split("## Parameters").nth(1).expect("a chapter of parameters");
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| `")).collect();
    let webhook = manifest("calltouch").webhook.expect("a webhook");
    assert_eq!(rows, webhook.fields.iter().map(row).collect::<Vec<_>>());
    assert_eq!(rows.len(), 74);
}

#[test]
fn every_field_and_trigger_of_the_built_in_connectors_speaks_both_languages() {
    for (path, _) in sheaf_connectors::builtin() {
        let manifest = manifest(path.trim_end_matches("/connector.yaml"));
        let fields = manifest.webhook.iter().flat_map(|webhook| &webhook.fields).chain(&manifest.settings);
        let titles = fields.map(|spec| (&spec.field.name, &spec.field.title));
        let titles = titles.chain(manifest.triggers.iter().map(|trigger| (&trigger.name, &trigger.title)));
        for (name, title) in titles {
            assert!(!title.en.is_empty() && !title.ru.is_empty(), "{path}: {name}");
        }
    }
}
