//! The shape of `connector.yaml`.

use crate::budget::{AMOUNT_MAX, RESERVE_PERCENT_MAX};
use crate::shape::{Key, Shape};
use crate::verdict::Class;

use super::field::{FIELDS_WORD, TYPE_WORDS};

/// A whole manifest.
pub fn manifest() -> Shape {
    Shape::object([
        Key::required("kind", Shape::Const("connector".to_owned())),
        Key::required("name", Shape::Name)
            .help("The name connections and bundles use.", "Имя для подключений и связок."),
        Key::required("title", Shape::words()),
        Key::optional("about", Shape::words()),
        Key::optional("settings", fields()).help("What a connection fills in.", "Что заполняет подключение."),
        Key::optional("secrets", Shape::named_map(secret())),
        Key::optional("open_secrets", Shape::Bool)
            .help("A connection may name further secrets.", "Подключение может назвать и другие секреты."),
        Key::optional("secret_hosts", Shape::list(Shape::template(Shape::Text))).help(
            "The only origins that may receive a secret.",
            "Единственные адреса, куда можно отправить секрет.",
        ),
        Key::optional("authentication", Shape::list(authentication())),
        Key::optional("webhook", webhook()),
        Key::optional("triggers", Shape::named_map(trigger())),
        Key::optional("actions", Shape::named_map(action())),
        Key::optional("verdicts", Shape::list(verdict())),
        Key::optional("budgets", Shape::named_map(budget())).help(
            "How much the vendor lets a connection send, on all nodes together.",
            "Сколько сервис разрешает слать через подключение, на всех узлах вместе.",
        ),
    ])
}

/// One budget.
pub fn budget() -> Shape {
    let resets = Shape::object([
        Key::required("at", Shape::Text).sample("00:00"),
        Key::optional("time_zone", Shape::TimeZone),
    ]);
    let truth = Shape::object([
        Key::required("remaining", Shape::template(Shape::Text))
            .help("What is left, as an answer says.", "Сколько осталось, по словам ответа."),
        Key::optional("reset", Shape::template(Shape::Text)).help(
            "When it is whole again: seconds from now, seconds since 1970, or a date.",
            "Когда снова будет полным: через сколько секунд, секунды с 1970 года или дата.",
        ),
    ]);
    Shape::object([
        Key::required("amount", amount()),
        Key::required("per", Shape::Duration)
            .help("In what time: 1s, 1m, 1d.", "За какое время: 1s, 1m, 1d."),
        Key::optional("resets", resets).help(
            "It begins anew each day at this time; else what was spent comes back a day later.",
            "Начинается заново каждый день в этот час; иначе потраченное возвращается через сутки.",
        ),
        Key::optional("charge", Shape::choice(["always", "on_success"]))
            .help("Which requests are charged.", "Какие запросы в счёт.")
            .default("always"),
        Key::optional("reserve", Shape::Integer { min: Some(0), max: Some(RESERVE_PERCENT_MAX) }).help(
            "Percent that replays leave to new events.",
            "Процент, который повторы оставляют новым событиям.",
        ),
        Key::optional("truth", truth)
            .help("Where answers say what is left.", "Где в ответах сказано, сколько осталось."),
    ])
}

/// How much a budget holds, or a request costs.
pub fn amount() -> Shape {
    Shape::Integer { min: Some(1), max: Some(AMOUNT_MAX) }
}

/// One field's declaration; also what stands in a connection's setting of type `fields`.
pub fn field() -> Shape {
    let types: Vec<&str> = TYPE_WORDS.into_iter().chain([FIELDS_WORD]).collect();
    Shape::object([
        Key::optional("type", Shape::choice(types)).default("any"),
        Key::optional("title", Shape::words()),
        Key::optional("help", Shape::words()),
        Key::optional("required", Shape::Bool),
        Key::optional("default", Shape::Any),
        Key::optional("format", Shape::choice(["unix_s", "unix_ms", "rfc3339"])),
        Key::optional("unit", Shape::choice(["ms", "s", "m", "h", "d", "w"])),
        Key::optional("values", Shape::map(Shape::OneOf(vec![Shape::words(), Shape::Any]))),
        Key::optional("items", Shape::Named { name: "field", shape: field }),
        Key::optional("fields", fields()),
        Key::optional("open", Shape::Bool),
        Key::optional("no_value", Shape::list(Shape::Text)).help(
            "Words the vendor writes for \"no value\".",
            "Слова, которыми сервис обозначает «нет значения».",
        ),
        Key::optional("always", Shape::Bool)
            .help("The vendor always sends a real value.", "Сервис всегда присылает настоящее значение."),
        Key::optional("personal", Shape::Bool),
        Key::optional("sensitive", Shape::Bool),
        Key::optional("sample", Shape::Any),
        Key::optional("kinds", Shape::list(Shape::Name)),
        Key::optional("sent", Shape::choice(["always", "sometimes"])),
        Key::optional("embedded", Shape::choice(["json"])),
        Key::optional("keys", Shape::Any),
        Key::optional("secrets", Shape::Bool),
    ])
}

/// Names to declarations.
pub fn fields() -> Shape {
    Shape::map(Shape::Named { name: "field", shape: field })
}

fn secret() -> Shape {
    Shape::object([
        Key::optional("required", Shape::Bool),
        Key::optional("title", Shape::words()),
        Key::optional("help", Shape::words()),
    ])
}

fn authentication() -> Shape {
    Shape::object([
        Key::optional("when", Shape::Filter),
        Key::optional("headers", Shape::map(Shape::template(Shape::Text))),
        Key::optional("query", Shape::map(Shape::template(Shape::Text))),
        Key::optional(
            "basic",
            Shape::object([
                Key::required("user", Shape::template(Shape::Text)),
                Key::required("password", Shape::template(Shape::Text)),
            ]),
        ),
    ])
}

fn webhook() -> Shape {
    Shape::object([
        Key::optional("methods", Shape::Any),
        Key::required("content", Shape::Any),
        Key::optional("time_zone", Shape::template(Shape::Text)),
        Key::optional("kinds", Shape::named_map(Shape::words())),
        Key::optional("fields", fields()),
        Key::optional("declared", Shape::template(Shape::Text)),
        Key::optional(
            "extra",
            Shape::object([
                Key::required("names", Shape::Any),
                Key::required("under", Shape::Text),
                Key::optional("bare", Shape::Bool),
                Key::required("field", Shape::Named { name: "field", shape: field }),
            ]),
        ),
        Key::optional("renames", Shape::Any),
        Key::optional("unticked", Shape::Any),
        Key::optional("checks", Shape::list(check())),
        Key::optional("dedupe", dedupe()),
        Key::optional(
            "answer",
            Shape::object([
                Key::optional("status", Shape::Any),
                Key::optional("content_type", Shape::template(Shape::Text)),
                Key::optional("body", Shape::template(Shape::Text)),
            ]),
        ),
        Key::optional("probe", Shape::Filter),
    ])
}

fn check() -> Shape {
    Shape::object([
        Key::optional("when", Shape::Filter),
        Key::optional("addresses", Shape::Any),
        Key::optional(
            "header",
            Shape::object([
                Key::required("name", Shape::template(Shape::Text)),
                Key::optional("prefix", Shape::Text),
                Key::required("secret", Shape::Text),
            ]),
        ),
        Key::optional(
            "basic",
            Shape::object([
                Key::required("user", Shape::template(Shape::Text)),
                Key::required("secret", Shape::Text),
            ]),
        ),
        Key::optional(
            "hmac",
            Shape::object([
                Key::required("style", Shape::choice(["standard_webhooks", "github", "timestamped"])),
                Key::optional("header", Shape::template(Shape::Text)),
                Key::required("secret", Shape::Text),
                Key::optional("tolerance", Shape::Duration),
            ]),
        ),
    ])
}

fn dedupe() -> Shape {
    Shape::object([
        Key::optional("all_except", Shape::Any),
        Key::optional("only", Shape::Any),
        Key::optional("window", Shape::Duration),
        Key::optional("on_resend", Shape::template(Shape::choice(["ignore", "reprocess"]))),
    ])
}

fn trigger() -> Shape {
    let value = Shape::object([Key::required("title", Shape::words()), Key::required("when", Shape::Filter)]);
    let option = Shape::object([
        Key::required("title", Shape::words()),
        Key::optional("default", Shape::Text),
        Key::required("values", Shape::map(value)),
    ]);
    Shape::object([
        Key::required("title", Shape::words()),
        Key::optional("help", Shape::words()),
        Key::optional("kinds", Shape::list(Shape::Name)),
        Key::optional("when", Shape::Filter),
        Key::optional("options", Shape::named_map(option)),
        Key::optional("sample", Shape::map(Shape::Any)),
    ])
}

fn action() -> Shape {
    Shape::object([
        Key::required("title", Shape::words()),
        Key::optional("help", Shape::words()),
        Key::optional("unknown", Shape::choice(["idempotent", "keyed", "none"]))
            .help("What a repeat after a lost answer does.", "Что сделает повтор, если ответ потерян.")
            .default("none"),
        Key::optional("cost", amount())
            .help("What a request takes from each budget.", "Сколько запрос берёт из каждого бюджета.")
            .default(1),
        Key::optional("input", fields()),
        Key::required("request", request("POST")),
        Key::optional("output", fields()),
        Key::optional("probe", probe()).help(
            "Asks whether a request worked whose answer was lost.",
            "Спрашивает, сработал ли запрос, ответ на который потерян.",
        ),
    ])
}

fn probe() -> Shape {
    Shape::object([
        Key::required("request", request("GET")),
        Key::required("found", Shape::Filter)
            .help("Its answer says that the vendor has it.", "Из ответа видно, что у сервиса это есть."),
        Key::required("absent", Shape::Filter).help(
            "Its answer says that the vendor does not have it.",
            "Из ответа видно, что у сервиса этого нет.",
        ),
    ])
}

fn request(usual_method: &str) -> Shape {
    Shape::object([
        Key::optional("method", Shape::template(Shape::Text)).default(usual_method),
        Key::required(
            "url",
            Shape::OneOf(vec![Shape::list(Shape::template(Shape::Text)), Shape::template(Shape::Text)]),
        ),
        Key::optional("query", Shape::Any),
        Key::optional("headers", Shape::Any),
        Key::optional("encoding", Shape::template(Shape::choice(["json", "form", "raw", "none"]))),
        Key::optional("content_type", Shape::template(Shape::Text)),
        Key::optional("body", Shape::Any),
        Key::optional("timeout", Shape::Duration),
    ])
}

fn verdict() -> Shape {
    let setting = |name| Shape::object([Key::required(name, Shape::Text)]);
    Shape::object([
        Key::required(
            "when",
            Shape::OneOf(vec![setting("setting"), setting("setting_given"), Shape::Filter]),
        ),
        Key::required("verdict", Shape::choice(Class::ALL.map(Class::name))),
        Key::optional("message", Shape::words()),
        Key::optional("detail", Shape::template(Shape::Text)),
        Key::optional("until", Shape::template(Shape::Text)).help(
            "When to try again: seconds from now, seconds since 1970, or a date. Without it, `Retry-After`.",
            "Когда повторить: через сколько секунд, секунды с 1970 года или дата. Без него — `Retry-After`.",
        ),
    ])
}
