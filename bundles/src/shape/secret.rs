//! The shape of a reference to a secret. Its diagnostics never quote the value, and their source is not shown.

use crate::{
    diagnostic::{Diagnostic, Diagnostics, code::Code},
    words::Words,
    yaml::{Kind, Node, Span},
};

pub(super) fn check(node: &Node, out: &mut Diagnostics) -> bool {
    let problem = match &node.kind {
        Kind::Null => Some((node.span, "a reference to a secret is missing", "нет ссылки на секрет")),
        Kind::Bool(_) | Kind::Number(_) | Kind::Text { .. } | Kind::List(_) => {
            Some((node.span, "a secret's value may not stand in a file", "значению секрета не место в файле"))
        }
        Kind::Map(entries) => match entries.as_slice() {
            [entry] => match (entry.key.as_str(), entry.value.as_text()) {
                ("env", Some(name)) if is_variable(name) => None,
                ("env", _) => Some((
                    entry.value.span,
                    "`env` takes the name of an environment variable",
                    "в `env` указывают имя переменной окружения",
                )),
                ("file", Some(path)) if !path.is_empty() => None,
                ("file", _) => Some((entry.value.span, "`file` takes a path", "в `file` указывают путь")),
                (_, _) => Some((
                    entry.value.span,
                    "a secret is taken from `env` or `file`",
                    "секрет берётся из `env` или `file`",
                )),
            },
            _ => Some((node.span, "a secret is taken from one place", "секрет берётся из одного места")),
        },
    };
    let fine = problem.is_none();
    problem.into_iter().for_each(|(span, en, ru)| out.push(secret_value(span, en, ru)));
    fine
}

fn is_variable(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn secret_value(span: Span, en: &str, ru: &str) -> Diagnostic {
    let hint = Words::new(
        "write `{env: NAME}` or `{file: path}`, and keep the value there",
        "напишите `{env: ИМЯ}` или `{file: путь}`, а значение храните там",
    );
    Diagnostic::error(Code::SecretValue, span, Words::new(en, ru)).with_hint(hint)
}
