//! A mapping node to places: targets read, nested, checked against the fields, clashes found.

use super::{
    Place,
    source::{Source, Target},
    target::{self, Step},
};
use crate::{
    diagnostic::{Diagnostic, Diagnostics, code::Code, excerpt::excerpt, suggest::suggest},
    expression::Scope,
    path::Segment,
    shape::check::is_computed,
    types::{self, Field, Found, Type},
    value::Text,
    words::Words,
    yaml::{Entry, Kind, Node, Span},
};

/// One value and where it goes.
struct Leaf<'a> {
    steps: Vec<Step>,
    /// Where the target was written.
    span: Span,
    node: &'a Node,
}

/// What a branch of the result is made of, while it grows.
enum Branch {
    Leaf { place: Option<Place>, span: Span },
    Object { entries: Vec<(String, Branch)>, span: Span },
    List { items: Vec<(usize, Branch)>, span: Span },
}

pub fn mapping(
    node: &Node,
    fields: &[Field],
    open: bool,
    scope: &dyn Scope,
    out: &mut Diagnostics,
) -> Option<Vec<(Text, Place)>> {
    let mut leaves = Vec::new();
    let mut fine = collect(node, &[], &mut leaves, out);
    let mut root = Branch::Object { entries: Vec::new(), span: node.span };
    for leaf in &leaves {
        let place = compile(leaf, fields, open, scope, out);
        fine &= place.is_some() & insert(&mut root, leaf, &leaf.steps, place, out);
    }
    fine &= required(node.span, "", fields, &leaves, out);
    let Some(Place::Object(entries)) = finished(root, out) else { return None };
    fine.then_some(entries)
}

/// Every value below a node, with its whole target. False when a target cannot be read.
fn collect<'a>(node: &'a Node, above: &[Step], leaves: &mut Vec<Leaf<'a>>, out: &mut Diagnostics) -> bool {
    let mut fine = true;
    for entry in node.as_map().unwrap_or_default() {
        match target::parse(&entry.key) {
            Ok(steps) => {
                let steps = [above, &steps].concat();
                fine &= below(&entry.value, steps, entry.key_span, leaves, out);
            }
            Err(words) => {
                fine = false;
                out.push(bad_target(entry, &words));
            }
        }
    }
    fine
}

fn below<'a>(
    node: &'a Node,
    steps: Vec<Step>,
    span: Span,
    leaves: &mut Vec<Leaf<'a>>,
    out: &mut Diagnostics,
) -> bool {
    if steps.len() > super::TARGET_DEPTH_MAX {
        let message = Words::new("the target is nested too deep", "слишком глубокая вложенность");
        out.push(Diagnostic::error(Code::BadTarget, span, message));
        return false;
    }
    match &node.kind {
        Kind::Map(entries) if !entries.is_empty() && !is_computed(node) => collect(node, &steps, leaves, out),
        Kind::List(items) if items.iter().any(is_nested) => {
            let mut fine = true;
            for (index, item) in items.iter().enumerate() {
                let steps = [steps.as_slice(), &[Step::Index(index)]].concat();
                fine &= below(item, steps, item.span, leaves, out);
            }
            fine
        }
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text { .. } | Kind::List(_) | Kind::Map(_) => {
            leaves.push(Leaf { steps, span, node });
            true
        }
    }
}

/// An item in which something is computed: any other list is a literal.
fn is_nested(item: &Node) -> bool {
    match &item.kind {
        Kind::Map(_) | Kind::List(_) => true,
        Kind::Text { text, .. } => crate::template::Template::is_template(text),
        Kind::Null | Kind::Bool(_) | Kind::Number(_) => false,
    }
}

fn compile(
    leaf: &Leaf<'_>,
    fields: &[Field],
    open: bool,
    scope: &dyn Scope,
    out: &mut Diagnostics,
) -> Option<Place> {
    let segments: Vec<Segment> = leaf.steps.iter().map(segment).collect();
    let label = target::shown(&leaf.steps);
    let target = match types::find(fields, open, &segments) {
        Found::Field(field) => Target::of_field(label, field),
        Found::Inside { ty, .. } => {
            let name = segments
                .iter()
                .rev()
                .find(|segment| segment.index.is_none())
                .map_or("", |segment| &*segment.key);
            Target { label, name, ty, required: false }
        }
        Found::Unknown { .. } if is_parent(&segments, fields) => {
            Target { label, name: "", ty: &Type::Any, required: false }
        }
        Found::Unknown { at, known } => {
            out.push(unknown(leaf, at, &segments, &known));
            return None;
        }
    };
    Source::compile(leaf.node, &target, scope, out).map(Place::Value)
}

fn segment(step: &Step) -> Segment {
    match step {
        Step::Key(key) => Segment { key: key.as_str().into(), index: None },
        Step::Index(index) => Segment::new(&index.to_string()),
    }
}

/// Whether fields with dotted names lie below this target, so that a whole object may stand here.
fn is_parent(segments: &[Segment], fields: &[Field]) -> bool {
    let prefix = segments.iter().map(|segment| &*segment.key).collect::<Vec<_>>().join(".") + ".";
    fields.iter().any(|field| field.name.starts_with(&prefix))
}

/// Puts a value in its place; false when something else is there.
fn insert(
    branch: &mut Branch,
    leaf: &Leaf<'_>,
    steps: &[Step],
    place: Option<Place>,
    out: &mut Diagnostics,
) -> bool {
    let Some((step, rest)) = steps.split_first() else {
        out.push(clash(leaf, branch.span()));
        return false;
    };
    let next = match (branch, step) {
        (Branch::Object { entries, .. }, Step::Key(key)) => {
            match entries.iter().position(|(known, _)| known == key) {
                Some(at) => &mut entries[at].1,
                None => {
                    entries.push((key.clone(), fresh(rest, leaf.span, place)));
                    return true;
                }
            }
        }
        (Branch::List { items, .. }, Step::Index(index)) => {
            match items.iter().position(|(known, _)| known == index) {
                Some(at) => &mut items[at].1,
                None => {
                    items.push((*index, fresh(rest, leaf.span, place)));
                    return true;
                }
            }
        }
        (other, _) => {
            out.push(clash(leaf, other.span()));
            return false;
        }
    };
    insert(next, leaf, rest, place, out)
}

/// A new branch for what is left of a target, down to the value.
fn fresh(rest: &[Step], span: Span, place: Option<Place>) -> Branch {
    match rest.split_first() {
        None => Branch::Leaf { place, span },
        Some((Step::Key(key), rest)) => {
            Branch::Object { entries: vec![(key.clone(), fresh(rest, span, place))], span }
        }
        Some((Step::Index(index), rest)) => {
            Branch::List { items: vec![(*index, fresh(rest, span, place))], span }
        }
    }
}

impl Branch {
    fn span(&self) -> Span {
        match self {
            Branch::Leaf { span, .. } | Branch::Object { span, .. } | Branch::List { span, .. } => *span,
        }
    }
}

/// The places, once every value is in. None when something in it had an error.
fn finished(branch: Branch, out: &mut Diagnostics) -> Option<Place> {
    match branch {
        Branch::Leaf { place, .. } => place,
        Branch::Object { entries, .. } => {
            let places = entries
                .into_iter()
                .map(|(key, branch)| finished(branch, out).map(|place| (key.into(), place)));
            // Every branch is finished, so that every diagnostic is seen.
            let places: Vec<_> = places.collect();
            places.into_iter().collect::<Option<_>>().map(Place::Object)
        }
        Branch::List { mut items, span } => {
            items.sort_by_key(|(index, _)| *index);
            let gap = items.iter().enumerate().find(|(at, (index, _))| at != index).map(|(at, _)| at);
            if let Some(missing) = gap {
                let message = Words::new(
                    format!("the list has no item [{missing}]"),
                    format!("в списке нет элемента [{missing}]"),
                );
                let hint = Words::new("indexes go from 0 without a gap", "номера идут с 0 без пропусков");
                out.push(Diagnostic::error(Code::BadTarget, span, message).with_hint(hint));
                return None;
            }
            let places: Vec<_> = items.into_iter().map(|(_, branch)| finished(branch, out)).collect();
            places.into_iter().collect::<Option<_>>().map(Place::List)
        }
    }
}

/// Reports required fields that nothing fills. What lies in an object counts only when the object is begun.
fn required(span: Span, above: &str, fields: &[Field], leaves: &[Leaf<'_>], out: &mut Diagnostics) -> bool {
    let mut fine = true;
    for field in fields {
        let name = if above.is_empty() { field.name.clone() } else { format!("{above}.{}", field.name) };
        let begun = leaves.iter().find(|leaf| lies_in(leaf, &name));
        match (begun, &field.ty) {
            (None, _) if field.required && field.default.is_none() => {
                fine = false;
                out.push(missing(span, &name));
            }
            (Some(leaf), Type::Object { fields, .. }) if target::shown(&leaf.steps) != name => {
                fine &= required(span, &name, fields, leaves, out);
            }
            (None | Some(_), _) => {}
        }
    }
    fine
}

fn lies_in(leaf: &Leaf<'_>, name: &str) -> bool {
    let shown = target::shown(&leaf.steps);
    shown.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn bad_target(entry: &Entry, words: &Words) -> Diagnostic {
    let message = Words::new(
        format!("the target `{}` cannot be read: {}", excerpt(&entry.key), words.en),
        format!("цель `{}` не читается: {}", excerpt(&entry.key), words.ru),
    );
    let hint = Words::new(
        "targets look like `customer.mobilePhone` or `items[0].sku`; a dot in a name is written `\\.`",
        "цели выглядят так: `customer.mobilePhone`, `items[0].sku`; точка в имени пишется `\\.`",
    );
    Diagnostic::error(Code::BadTarget, entry.key_span, message).with_hint(hint)
}

fn clash(leaf: &Leaf<'_>, other: Span) -> Diagnostic {
    let label = excerpt(&target::shown(&leaf.steps));
    let message = Words::new(
        format!("`{label}` cannot hold together with another target"),
        format!("`{label}` несовместимо с другой целью"),
    );
    let hint = Words::new(
        "a name is either a value or holds other names, and gets one value only",
        "имя — либо значение, либо содержит другие имена, и значение у него одно",
    );
    let related = Words::new("the other one", "другая цель");
    Diagnostic::error(Code::TargetClash, leaf.span, message).with_hint(hint).with_related(other, related)
}

fn unknown(leaf: &Leaf<'_>, at: usize, segments: &[Segment], known: &[&str]) -> Diagnostic {
    let label = excerpt(&target::shown(&leaf.steps));
    let message = Words::new(format!("there is no target `{label}`"), format!("цели `{label}` нет"));
    let name = segments[at..].iter().map(|segment| &*segment.key).collect::<Vec<_>>().join(".");
    let near = suggest(&name, known.iter().copied());
    let diagnostic = Diagnostic::error(Code::UnknownTarget, leaf.span, message).with_suggestion(near);
    if diagnostic.hint.is_some() || known.is_empty() {
        return diagnostic;
    }
    let all = known.join(", ");
    diagnostic.with_hint(Words::new(format!("there are: {all}"), format!("есть: {all}")))
}

fn missing(span: Span, name: &str) -> Diagnostic {
    let message = Words::new(
        format!("`{name}` is required and not given"),
        format!("`{name}` обязательно и не задано"),
    );
    let hint = Words::new(format!("add `{name}: …`"), format!("добавьте `{name}: …`"));
    Diagnostic::error(Code::MissingTarget, span, message).with_hint(hint)
}
