//! `$(NAME)` in values, commands and paths.
//! <https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/>

/// `$(NAME)` becomes what `lookup` knows and stays as it is where it knows
/// nothing; `$$` becomes `$`; any other `$` stays. What is put in is not
/// expanded again. `None` when the result would pass `limit` bytes: values made
/// of values double with every variable.
///
/// The result is put together at once: one that grows leaves copies behind, which
/// nobody wipes.
pub(super) fn expand<'a>(
    text: &str,
    limit: usize,
    mut lookup: impl FnMut(&str) -> Option<&'a str>,
) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    let mut length = 0;
    let mut put = |part| {
        length += str::len(part);
        if !part.is_empty() {
            parts.push(part);
        }
        (length <= limit).then_some(())
    };
    let mut rest = text;
    // Once no `)` follows, none ever will: scanning for it again at every `$(`
    // would take time in the square of the length.
    let mut closes = true;
    while let Some((before, after)) = rest.split_once('$') {
        put(before)?;
        let reference = after
            .strip_prefix('(')
            .filter(|_| closes)
            .map(|body| body.split_once(')'));
        if let Some(tail) = after.strip_prefix('$') {
            put("$")?;
            rest = tail;
        } else if let Some(Some((name, tail))) = reference {
            match lookup(name) {
                Some(value) => put(value)?,
                None => ["$(", name, ")"].into_iter().try_for_each(&mut put)?,
            }
            rest = tail;
        } else {
            closes &= reference.is_none();
            put("$")?;
            rest = after;
        }
    }
    put(rest)?;
    Some(parts.concat())
}
