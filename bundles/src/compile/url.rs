//! A URL's template into its parts, each checked for its place.

use super::{constant, names::Names};
use crate::{
    diagnostic::{Diagnostic, Diagnostics, code::Code},
    outgoing::url::{Segment, Url, UrlError},
    template::{Part, Template},
    value::Map,
    words::Words,
    yaml::{Node, Span},
};

/// Compiles the template that stands at `node`; none after an error, which is in `out`.
pub fn compile(
    template: Template,
    node: &Node,
    names: &Names<'_>,
    settings: &Map,
    out: &mut Diagnostics,
) -> Option<Url> {
    let mut sound = true;
    let mut template = template;
    for part in &mut template.parts {
        if let Part::Expression(expression) = part {
            sound &= expression.check(names, node.span, out).is_some();
        }
    }
    let folded = constant::fold(template, settings);
    let mut url = match Url::of(&folded) {
        Ok(url) => url,
        Err(error) => {
            out.push(bad_url(error, node));
            return None;
        }
    };
    for segment in &mut url.path {
        if let Segment::Computed(template) = segment {
            sound &= check_segment(template, names, node.span, out);
        }
    }
    for value in url.query.iter_mut().filter_map(|(_, value)| value.as_mut()) {
        let mut found = Diagnostics::default();
        sound &= value.check(names, node.span, false, &mut found).is_some();
        // What is wrong with the expressions themselves has been said above.
        out.append(only(found, Code::CanBeEmpty));
    }
    sound.then_some(url)
}

fn check_segment(template: &mut Template, names: &Names<'_>, span: Span, out: &mut Diagnostics) -> bool {
    let mut found = Diagnostics::default();
    let typed = template.check(names, span, false, &mut found);
    out.append(only(found, Code::CanBeEmpty));
    let Some(typed) = typed else { return false };
    if template.single().is_some() && typed.can_be_empty {
        let label = template.label();
        let message = Words::new(
            format!("`{label}` can be empty, and the URL's path needs a value"),
            format!("`{label}` может быть пустым, а пути в URL нужно значение"),
        );
        let hint = Words::new(
            format!(
                "write `{{{{ default {label} \"…\" }}}}`, or let the filter demand `{label} is not empty`"
            ),
            format!(
                "напишите `{{{{ default {label} \"…\" }}}}` или потребуйте в фильтре `{label} is not empty`"
            ),
        );
        out.push(Diagnostic::error(Code::CanBeEmpty, span, message).with_hint(hint));
        return false;
    }
    true
}

fn only(found: Diagnostics, code: Code) -> Diagnostics {
    let mut kept = Diagnostics::default();
    found
        .iter()
        .filter(|diagnostic| diagnostic.code == code)
        .for_each(|diagnostic| kept.push(diagnostic.clone()));
    kept
}

fn bad_url(error: UrlError, node: &Node) -> Diagnostic {
    let hint = match error {
        UrlError::OriginNotConstant => Words::new(
            "write the host out, or take it from `connection.settings`; an event may fill the path and the query",
            "напишите хост целиком или возьмите из `connection.settings`; из события можно брать путь и параметры",
        ),
        UrlError::NameNotConstant => Words::new("compute the value instead", "вычисляйте значение, а не имя"),
        UrlError::UserInfo => {
            Words::new("use the connection's authentication", "используйте авторизацию подключения")
        }
        UrlError::Fragment => {
            Words::new("write `%23` for a `#` in a value", "для `#` внутри значения пишите `%23`")
        }
        UrlError::Scheme | UrlError::Host | UrlError::Port => Words::new(
            "for example `https://api.example.com/orders`",
            "например, `https://api.example.com/orders`",
        ),
    };
    Diagnostic::error(Code::BadUrl, node.span, error.words()).with_hint(hint)
}
