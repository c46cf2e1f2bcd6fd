//! A container's log: the node's text, or its refusal in the API server's words
//! (apiserver `registry/generic/rest/{streamer,response_checker}.go`).

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, future};
use http::header::CONTENT_TYPE;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};

use super::dial::Dialer;
use super::location::Place;
use super::shown;
use crate::kubernetes::status::ApiError;

/// The longest refusal that is read, in bytes.
const REFUSAL: usize = 50_000;

pub(super) async fn serve(dialer: &Dialer, place: &Place, pod: &str) -> Result<Response, ApiError> {
    let fail = |why: &str| ApiError::unknown(format!("Get \"{}\": {why}", shown(place)));
    let request = Request::get(&place.target)
        .body(Body::empty())
        .map_err(|error| fail(&error.to_string()))?;
    let answer = dialer.send(place, request).await;
    let answer = answer.map_err(|why| fail(&why))?;
    let status = answer.status();
    if !(200..=206).contains(&status.as_u16()) {
        let body = Limited::new(answer.into_body(), REFUSAL).collect().await;
        let body = body.map_err(|error| ApiError::internal(&error.to_string()))?;
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        return Err(refused(status, pod, &text));
    }
    // That the node broke off is not passed on: the answer just ends.
    let pieces = answer.into_body().into_data_stream();
    let pieces = pieces.take_while(|piece| future::ready(piece.is_ok()));
    let text = [(CONTENT_TYPE, "text/plain")];
    Ok((text, Body::from_stream(pieces)).into_response())
}

/// The answer for a pod that is on no node.
pub(super) fn nothing() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

fn refused(status: StatusCode, pod: &str, text: &str) -> ApiError {
    match status {
        StatusCode::INTERNAL_SERVER_ERROR => ApiError::internal(text),
        StatusCode::BAD_REQUEST => ApiError::bad_request(text),
        _ => ApiError::of_a_server(status, ("pods/log", pod), text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_refusal_is_told_in_the_real_servers_words() {
        for (status, code, words) in [
            (400, 400, "no such log"),
            (500, 500, "Internal error occurred: no such log"),
            (
                404,
                404,
                "the server could not find the requested resource ( pods/log web)",
            ),
            (403, 403, "no such log ( pods/log web)"),
            (
                501,
                501,
                "an error on the server (\"no such log\") has prevented the request from \
                 succeeding ( pods/log web)",
            ),
        ] {
            let error = refused(StatusCode::from_u16(status).unwrap(), "web", "no such log");
            assert_eq!((error.code, &*error.message), (code, words));
        }
    }
}
