//! `/_sandbox/faults` and `/_sandbox/clock`: the switchboard and the time over
//! HTTP, outside the served API's own authentication and faults.
//!
//! | request | what it does |
//! |---|---|
//! | `GET /_sandbox/faults` | the rules in force |
//! | `POST /_sandbox/faults` | adds a [`Rule`] |
//! | `DELETE /_sandbox/faults` | clears them |
//! | `GET /_sandbox/clock` | `{"now": …, "stepped": …}` |
//! | `POST /_sandbox/clock` `{"advance": seconds}` | steps a stepped clock and answers as GET does; 409 with the live one |

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use crate::clock::Clock;
use crate::faults::{Faults, Rule};

/// The longest step: longer than any period in the services, certificates and
/// tokens included, and far from the end of timestamps.
const MAX_ADVANCE: Duration = Duration::from_secs(366 * 24 * 3600);

/// The body of a step.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// Seconds.
    advance: u64,
}

/// The routes of one service's switchboard and clock.
pub fn routes(faults: Faults, clock: Clock) -> Router {
    let list = |State(faults): State<Faults>| async move { Json(faults.rules()) };
    let add = |State(faults): State<Faults>, Json(rule): Json<Rule>| async move {
        faults.add(rule);
        Json(faults.rules())
    };
    let clear = |State(faults): State<Faults>| async move {
        faults.clear();
        Json(faults.rules())
    };
    let switchboard = Router::new()
        .route("/_sandbox/faults", get(list).post(add).delete(clear))
        .with_state(faults);
    let show = |State(clock): State<Clock>| async move { shown(&clock) };
    Router::new()
        .route("/_sandbox/clock", get(show).post(step))
        .with_state(clock)
        .merge(switchboard)
}

fn shown(clock: &Clock) -> Response {
    Json(json!({"now": clock.now().to_string(), "stepped": clock.is_stepped()})).into_response()
}

/// Lets that much of the runtime's time pass. In paused time this is at once,
/// and whatever is due on the way happens in its order.
async fn step(State(clock): State<Clock>, Json(step): Json<Step>) -> Response {
    let refuse = |code: StatusCode, message: &str| {
        (
            code,
            Json(json!({"code": code.as_u16(), "message": message})),
        )
            .into_response()
    };
    if !clock.is_stepped() {
        let message = "this is the system's clock; only a stepped one can be stepped";
        return refuse(StatusCode::CONFLICT, message);
    }
    let by = Duration::from_secs(step.advance);
    if by > MAX_ADVANCE {
        let message = "a step is at most 366 days";
        return refuse(StatusCode::BAD_REQUEST, message);
    }
    tokio::time::sleep(by).await;
    shown(&clock)
}
