//! Whole pages: the overview, the login, the question before an action, the password.
//!
//! Pure. Everything works without a script: forms are forms, and the overview loads itself anew.

use gantry_proto::v1 as pb;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::assets;
use super::board::Board;
use super::frame::{Filter, Frame};
use super::password::SHORTEST;
use super::rows::{self, shape, time};
use super::session::Session;
use super::words;

/// The symbols that states are told by: each has an outline of its own.
const SPRITE: &str = include_str!("assets/shapes.svg");

fn document(title: &str, head: &Markup, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (title) }
                link rel="icon" href=(assets::ICON.url()) type="image/svg+xml";
                link rel="stylesheet" href=(assets::STYLE.url());
                (head)
            }
            (body)
        }
    }
}

fn sprite() -> PreEscaped<&'static str> {
    PreEscaped(SPRITE)
}

fn brand() -> Markup {
    html! { span.brand { (shape("gate")) "Gantry" } }
}

/// The overview as a page.
pub(super) fn overview(
    board: &Board,
    frame: &Frame,
    filter: &Filter,
    session: &Session,
    notice: Option<&str>,
) -> Markup {
    let title = format!("{} · System Overview · Gantry", frame.counts.title());
    let head = html! {
        script src=(assets::SCRIPT.url()) defer {}
        noscript { meta http-equiv="refresh" content="5"; }
    };
    let none = (frame.counts.all() > 0 && frame.shown(filter) == 0).then_some(());
    let body = html! {
        body data-frame=(board.mark(frame)) {
            (sprite())
            a.skip href="#clusters" { "Skip to the virtual services" }
            header.bar {
                (brand())
                h1 { "System Overview" }
                p #live.live { (shape("live")) span { "as it was when this page was loaded" } }
                nav aria-label="Account" {
                    a href="/password" { (session.user) }
                    form method="post" action="/logout" {
                        (form_token(session)) button.plain { "Log out" }
                    }
                }
            }
            // The age is not read out every second.
            p #banner.banner role="alert" hidden {
                span {} span aria-hidden="true" {} a href="/login?said=ended" hidden { "Log in" }
            }
            p #says.hidden role="status" aria-live="polite" {}
            p #notice.notice role="status" hidden[notice.is_none()] { (notice.unwrap_or_default()) }
            main {
                div.tools {
                    (if filter.state.is_empty() {
                        PreEscaped(frame.counts_part.to_string())
                    } else {
                        rows::counts(&frame.counts, &filter.state)
                    })
                    search {
                        form #filter method="get" action="/" {
                            input type="hidden" name="state" value=(filter.state);
                            label.hidden for="q" { "Filter by name, address or port" }
                            input #q type="search" name="q" value=(filter.text) autocomplete="off"
                                placeholder="Filter by name, address or port";
                            noscript { button.button { "Filter" } }
                        }
                        p #shown.quiet aria-live="polite" {}
                    }
                }
                (frame.clusters(filter))
                p #none.empty hidden[none.is_none()] {
                    "No virtual service is like that. " a href="/" data-all { "Show all" }
                }
                section.log aria-labelledby="events-title" {
                    h2 #events-title { "Newest events" }
                    (frame.events())
                }
            }
            dialog #dialog aria-labelledby="question" {}
            footer {
                p { "The same in a terminal: " code { "gantry overview --watch" } ", "
                    code { "gantry events --follow" } }
            }
        }
    };
    document(&title, &head, &body)
}

/// Stands in every form of a session.
pub(super) fn form_token(session: &Session) -> Markup {
    html! { input type="hidden" name="form_token" value=(session.form_token); }
}

fn small_page(title: &str, wide: &Markup) -> Markup {
    let title_text = format!("{title} · Gantry");
    let body = html! {
        body.small {
            (sprite())
            main.sheet { (brand()) (wide) }
        }
    };
    document(&title_text, &html! {}, &body)
}

fn complaint(text: Option<&str>) -> Markup {
    html! { @if let Some(text) = text { p.complaint role="alert" { (shape("octagon")) (text) } } }
}

/// The login.
pub(super) fn login(form_token: &str, why: Option<&str>) -> Markup {
    small_page(
        "Log in",
        &html! {
            h1 { "System Overview" }
            (complaint(why))
            form method="post" action="/login" {
                input type="hidden" name="form_token" value=(form_token);
                label for="user" { "User" }
                input #user name="user" value="admin" autocomplete="username" required
                    autocapitalize="none" spellcheck="false";
                label for="password" { "Password" }
                input #password name="password" type="password" autocomplete="current-password" required
                    autofocus;
                button.primary { "Log in" }
            }
            p.quiet { "The first password was shown where the controller was first started. If it is lost: "
                code { "gantry-controller reset-password" } }
        },
    )
}

/// The change of one's own password.
pub(super) fn password(session: &Session, why: Option<&str>) -> Markup {
    small_page(
        "Password",
        &html! {
            h1 { "Change the password of " (session.user) }
            (complaint(why))
            form method="post" action="/password" {
                (form_token(session))
                input type="hidden" name="user" value=(session.user) autocomplete="username";
                label for="old" { "Password until now" }
                input #old name="old" type="password" autocomplete="current-password" required autofocus;
                label for="new" { "New password, at least " (SHORTEST) " characters" }
                input #new name="new" type="password" autocomplete="new-password" required
                    minlength=(SHORTEST);
                label for="again" { "The same again" }
                input #again name="again" type="password" autocomplete="new-password" required
                    minlength=(SHORTEST);
                p.quiet { "Every session of " (session.user) " ends; you log in again." }
                div.buttons { button.primary { "Change it" } a.button href="/" { "Cancel" } }
            }
        },
    )
}

/// Something was refused, on a page of its own.
pub(super) fn refusal(title: &str, why: &str) -> Markup {
    small_page(
        title,
        &html! {
            h1 { (title) }
            (complaint(Some(why)))
            div.buttons { a.button href="/" { "Back to the overview" } }
        },
    )
}

/// What is asked before something is done to a real server.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) verb: &'static str,
    pub(super) server: &'a pb::RealServer,
    pub(super) service: &'a pb::VirtualService,
    /// No other real server of the service serves.
    pub(super) last: bool,
    /// The name has to be given whole on the command line, for there are several clusters.
    pub(super) whole_name: bool,
    pub(super) why: Option<&'a str>,
    pub(super) comment: &'a str,
}

/// The question on a page of its own, for who has no script.
pub(super) fn question_page(question: &Question<'_>, session: &Session) -> Markup {
    small_page(&format!("{} a real server", question.verb), &self::question(question, session))
}

/// The question as a form, for a dialog.
pub(super) fn question(question: &Question<'_>, session: &Session) -> Markup {
    let Question { verb, server, service, .. } = question;
    let short = words::short(&server.name);
    let name = words::label(&server.name, &server.display_name);
    let of = words::label(&service.name, &service.display_name);
    html! {
        form.question method="post" action={ "/servers/" (short) "/" (verb) } {
            (form_token(session))
            h2 #question { (capital(verb)) " " (name) "?" }
            (complaint(question.why))
            p { (effect(question)) }
            @if question.last && *verb != "online" {
                p.warned { (shape("triangle"))
                    span { "It is the only real server of " strong { (of) } " that serves. "
                        @if service.fallback.is_some() { "New connections go to the fallback." }
                        @else { "Without it, " (of) " is down." } } }
            }
            @if *verb == "drain" {
                label for="halt_after" { "Connections that are still open" }
                select #halt_after name="halt_after" {
                    option value="" { "may end by themselves" }
                    option value="10m" { "are cut after 10 minutes" }
                    option value="30m" { "are cut after 30 minutes" }
                    option value="1h" { "are cut after 1 hour" }
                    option value="8h" { "are cut after 8 hours" }
                }
            }
            label for="comment" { "Why, for the record (optional)" }
            input #comment name="comment" maxlength="500" autocomplete="off" value=(question.comment);
            p.command { span.quiet { "The same in a terminal" }
                code data-command=(command(question)) { (command(question)) } }
            div.buttons {
                button.primary.danger[*verb == "halt"] { (capital(verb)) }
                a.button href="/" data-cancel { "Cancel" }
            }
        }
    }
}

fn effect(question: &Question<'_>) -> Markup {
    let status = question.server.status.clone().unwrap_or_default();
    let open = status.active_connections;
    let address = words::endpoint(question.server.endpoint.as_ref());
    html! {
        @match (question.verb, open) {
            ("halt", 0) => { (address) " is taken out at once. No connection is open on it." }
            ("halt", open) => {
                (address) " is taken out at once: "
                strong { (words::counted(open, "open connection")) } @if open == 1 { " is cut." } @else { " are cut." }
            }
            ("drain", 0) => { (address) " gets no new connections. None is open on it." }
            ("drain", open) => {
                (address) " gets no new connections; " (words::counted(open, "open connection"))
                @if open == 1 { " goes on until it ends." } @else { " go on until they end." }
            }
            _ => { (address) " is put back into service, as soon as its check is good." }
        }
        @if status.stale {
            " " span.quiet { "The agents are silent: this rests on what they said at "
                (time(status.last_check_time.as_ref(), "at")) "." }
        }
    }
}

/// `gantry halt hl7/hl71`
fn command(question: &Question<'_>) -> String {
    let name = &question.server.name;
    let short = words::short(name);
    let named = short.split_once('/').filter(|_| !question.whole_name).map(|(_, rest)| rest);
    format!("gantry {} {}", question.verb, named.unwrap_or(name))
}

fn capital(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_uppercase() + rest
}
