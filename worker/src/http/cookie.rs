//! The cookie of a session: the token, where no script can read it.
//!
//! It is the token itself, so a session lasts as long as the token, on every worker that knows it, and
//! nothing has to be stored. `auth.rs` takes it in requests of pages of this origin alone.

use axum::{
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::Problem;

const NAME: &str = "glyph_session";

/// Sets the cookie; it ends with the browser.
pub(super) fn set(
    response: &mut Response,
    headers: &HeaderMap,
    token: &str,
) -> Result<(), Problem> {
    write(response, headers, &URL_SAFE_NO_PAD.encode(token), "")
}

/// Deletes the cookie.
pub(super) fn delete(response: &mut Response, headers: &HeaderMap) -> Result<(), Problem> {
    write(response, headers, "", "; Max-Age=0")
}

/// A page that came by HTTPS gets a cookie that is sent by HTTPS alone.
fn write(
    response: &mut Response,
    headers: &HeaderMap,
    value: &str,
    lifetime: &str,
) -> Result<(), Problem> {
    let origin = headers.get(header::ORIGIN).map(HeaderValue::as_bytes);
    let secure = match origin {
        Some(origin) if origin.starts_with(b"https://") => "; Secure",
        _ => "",
    };
    let cookie = format!("{NAME}={value}; Path=/; HttpOnly; SameSite=Strict{lifetime}{secure}");
    let cookie = HeaderValue::from_str(&cookie).map_err(|_| Problem::internal())?;
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(())
}

/// The token in the cookie of a request.
pub(super) fn token(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter();
    let cookies = cookies.filter_map(|sent| sent.to_str().ok());
    let mut cookies = cookies.flat_map(|sent| sent.split(';'));
    let value = cookies.find_map(|cookie| cookie.trim().strip_prefix(NAME)?.strip_prefix('='))?;
    String::from_utf8(URL_SAFE_NO_PAD.decode(value).ok()?).ok()
}
