//! Every parameter of Calltouch's webhook, as the vendor's article on webhooks lists them, with a realistic value each.
//!
//! Written down here by hand and on purpose not taken from the product's manifest: the two are compared by a test.

/// Which leads carry a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leads {
    /// Calls only.
    Calls,
    /// Requests only.
    Requests,
    /// Both.
    Both,
}

/// How a parameter looks on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One text; the sample is it.
    Text(&'static str),
    /// `name[i][key]`: a list of objects with these two keys.
    List(&'static [[(&'static str, &'static str); 2]]),
    /// The site's own attributes, in one of [`super::AttributesForm`].
    Attributes,
}

/// One parameter.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name by default; a user may rename it.
    pub name: &'static str,
    /// Who carries it.
    pub leads: Leads,
    /// False: the vendor's table says "not available when the call starts".
    pub at_start: bool,
    /// What it looks like.
    pub shape: Shape,
}

const fn text(name: &'static str, leads: Leads, sample: &'static str) -> Parameter {
    Parameter { name, leads, at_start: true, shape: Shape::Text(sample) }
}

const fn after_start(name: &'static str, leads: Leads, sample: &'static str) -> Parameter {
    Parameter { name, leads, at_start: false, shape: Shape::Text(sample) }
}

use Leads::{Both, Calls, Requests};

/// All of them, in the vendor's order.
pub const PARAMETERS: &[Parameter] = &[
    text("leadtype", Both, "call"),
    text("callphase", Calls, "calldisconnected"),
    text("id", Calls, "700101"),
    text("changedFields", Both, "null"),
    text("requestId", Requests, "501200"),
    text("requestNumber", Requests, "WEB-17"),
    text("subject", Requests, "Заявка с главной"),
    text("ctCallerId", Calls, "b3c8a1d4e5"),
    text("fio", Requests, "Иван Петров"),
    text("callerphone", Both, "79990000001"),
    text("email", Requests, "ivan@example.org"),
    text("phonenumber", Calls, "74950000001"),
    after_start("redirectNumber", Calls, "74950000002"),
    after_start("duration", Calls, "64"),
    after_start("waiting_time", Calls, "7"),
    text("calltime", Calls, "2026-03-05 10:15:30"),
    text("timestamp", Calls, "1772694930"),
    text("requestDate", Requests, "2026-03-05 10:16:40"),
    after_start("status", Calls, "successful"),
    text("unique", Calls, "true"),
    after_start("targetcall", Calls, "target"),
    after_start("uniqtargetcall", Calls, "uniqtarget"),
    text("callback", Calls, "non-callback"),
    text("uniquerequest", Requests, "true"),
    text("targetrequest", Requests, "target"),
    text("uniqtargetrequest", Requests, "non-uniqtarget"),
    text("worktime", Calls, "worktime"),
    text("pool", Calls, "dynamic"),
    after_start("rating", Both, "5"),
    Parameter {
        name: "comment",
        leads: Both,
        at_start: false,
        shape: Shape::List(&[
            [("party", "user1"), ("comment", "перезвонить")],
            [("party", "user2"), ("comment", "ok & done = 100%")],
        ]),
    },
    after_start("tags_auto_pr", Calls, "Продажа"),
    after_start("tags_auto_af", Calls, "null"),
    after_start("tags_auto_gr", Both, "Мужчина"),
    after_start("tags_auto_ct", Both, "null"),
    text("tags_auto_pn", Both, "null"),
    after_start("tags_manual", Both, "VIP"),
    text("tags_api", Both, "crm"),
    text("tags_request", Requests, "Форма"),
    text("attribution", Both, "1"),
    text("source", Both, "yandex"),
    text("medium", Both, "cpc"),
    text("utm_source", Both, "yandex"),
    text("utm_medium", Both, "cpc"),
    text("utm_campaign", Both, "spring"),
    text("utm_content", Both, "<не заполнено>"),
    text("utm_term", Both, "купить+окна"),
    Parameter {
        name: "add_url_params",
        leads: Both,
        at_start: true,
        shape: Shape::List(&[[("name", "abtest"), ("value", "a")]]),
    },
    text("gcid", Both, "1234567890.1772690000"),
    text("yaClientId", Both, "1772690000123456789"),
    text("sessionId", Both, "9001"),
    text("hostname", Both, "shop.example"),
    text("url", Both, "https://shop.example/?utm_source=yandex&utm_medium=cpc"),
    Parameter { name: "attrs", leads: Both, at_start: true, shape: Shape::Attributes },
    text("callUrl", Calls, "https://shop.example/contacts"),
    text("requestUrl", Requests, "https://shop.example/form"),
    text("callback_request_id", Calls, "88001"),
    text("callback_final_attempt", Calls, "true"),
    text("ref", Both, "https://yandex.ru/"),
    text("city", Both, "Москва"),
    text("browser", Both, "Chrome 131"),
    text("os", Both, "Windows 10"),
    text("device", Both, "Desktop"),
    text("ip", Both, "203.0.113.7"),
    text("sip_call_id", Calls, "a1b2c3d4@sip.example"),
    text("callReferenceNumber", Calls, "ref-700101"),
    text("reclink", Calls, "https://calls.example/rec?token=jwt-0"),
    after_start("orderId", Both, "3301"),
    text("siteId", Both, "12345"),
    text("siteName", Both, "Магазин"),
    text("userAgent", Both, "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/131.0"),
    text("sendingTimestamp", Both, "1772695000"),
    Parameter {
        name: "text",
        leads: Calls,
        at_start: false,
        shape: Shape::List(&[
            [("channel", "operator"), ("phrase", "Добрый день!")],
            [("channel", "client"), ("phrase", "hi")],
        ]),
    },
    text("manager", Both, "Анна"),
    after_start("spam", Calls, "false"),
];

/// The parameter of that name.
pub fn parameter(name: &str) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|parameter| parameter.name == name)
}
