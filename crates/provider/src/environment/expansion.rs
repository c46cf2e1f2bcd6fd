//! `$(NAME)` in values, commands and paths.
//! <https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/>

/// `$(NAME)` becomes what `lookup` knows and stays as it is where it knows
/// nothing; `$$` becomes `$`; any other `$` stays. What is put in is not
/// expanded again. `None` when the result would pass `limit` bytes: values made
/// of values double with every variable.
pub(super) fn expand<'a>(
    text: &str,
    limit: usize,
    mut lookup: impl FnMut(&str) -> Option<&'a str>,
) -> Option<String> {
    let mut out = String::with_capacity(text.len().min(limit));
    let mut rest = text;
    // Once no `)` follows, none ever will: scanning for it again at every `$(`
    // would take time in the square of the length.
    let mut closes = true;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let reference = after
            .strip_prefix('(')
            .filter(|_| closes)
            .map(|body| body.split_once(')'));
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some(Some((name, tail))) = reference {
            match lookup(name) {
                Some(value) => out.push_str(value),
                None => out.extend(["$(", name, ")"]),
            }
            rest = tail;
        } else {
            closes &= reference.is_none();
            out.push('$');
            rest = after;
        }
        if out.len() > limit {
            return None;
        }
    }
    out.push_str(rest);
    (out.len() <= limit).then_some(out)
}
