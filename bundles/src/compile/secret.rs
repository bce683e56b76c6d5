//! Secrets in templates: they exist, and they go only where they may.

use crate::{
    connection::Connection,
    diagnostic::{Diagnostic, Diagnostics, code::Code, excerpt::excerpt, suggest::suggest},
    expression::Expression,
    template::{Part, Template},
    words::Words,
    yaml::Span,
};

/// The secrets a template names and where; only a secret that is a whole expression can be used at all.
pub fn names(template: &Template) -> impl Iterator<Item = (&str, Span)> {
    template.parts.iter().filter_map(|part| match part {
        Part::Expression(Expression::Secret { name, place }) => Some((name.as_str(), place.0)),
        Part::Expression(_) | Part::Text(_) => None,
    })
}

/// Reports secrets the connection does not have, at `span`.
pub fn check_names(template: &Template, connection: &Connection, span: Span, out: &mut Diagnostics) {
    for (name, _) in names(template) {
        if connection.secret(name).is_none() {
            out.push(unknown(name, connection, span));
        }
    }
}

/// "The connection has no such secret."
pub fn unknown(name: &str, connection: &Connection, span: Span) -> Diagnostic {
    let message = Words::new(
        format!("the connection `{}` has no secret `{}`", connection.own_name(), excerpt(name)),
        format!("у подключения `{}` нет секрета `{}`", connection.own_name(), excerpt(name)),
    );
    let known = connection.secrets.iter().map(|secret| secret.name.as_str());
    let hint = Words::new(
        format!("add it to the connection: `secrets: {{{name}: {{env: NAME}}}}`"),
        format!("добавьте его в подключение: `secrets: {{{name}: {{env: NAME}}}}`"),
    );
    let diagnostic =
        Diagnostic::error(Code::UnknownSecret, span, message).with_suggestion(suggest(name, known));
    super::connection::or_hint(diagnostic, hint)
}

/// "This is a secret, and it is written out."
pub fn written_out(header: &str, span: Span) -> Diagnostic {
    let message = Words::new(
        format!("the header `{}` carries a secret, and it is written out here", excerpt(header)),
        format!("заголовок `{}` несёт секрет, и здесь он записан целиком", excerpt(header)),
    );
    let hint = Words::new(
        "name it in the connection, `secrets: {key: {env: NAME}}`, and write `{{ connection.secrets.key }}`",
        "назовите его в подключении, `secrets: {key: {env: NAME}}`, и пишите `{{ connection.secrets.key }}`",
    );
    Diagnostic::error(Code::SecretValue, span, message).with_hint(hint)
}

/// Reports a secret of the connection on its way to an origin that may not have it.
pub fn check_origin(origin: &str, connection: &Connection, span: Span, out: &mut Diagnostics) {
    if connection.secret_origins.iter().any(|allowed| allowed == origin) {
        return;
    }
    let message = Words::new(
        format!(
            "`{}` may not receive the secrets of the connection `{}`",
            excerpt(origin),
            connection.own_name()
        ),
        format!("`{}` не может получать секреты подключения `{}`", excerpt(origin), connection.own_name()),
    );
    let allowed = connection.secret_origins.join(", ");
    let hint = Words::new(format!("they may go to: {allowed}"), format!("их можно отправлять на: {allowed}"));
    out.push(Diagnostic::error(Code::SecretHost, span, message).with_hint(hint));
}
