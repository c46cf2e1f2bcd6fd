//! An application's units, by its prefix, with the agent's own commands.

use super::install::{LABEL, target};
use super::machine::{Machine, Trouble};

/// What the labels of an application are on, its Podman pods last.
const CLEAN: &str = r#"c=$(podman ps -aq --filter "label=$0") || exit
[ -z "$c" ] || podman rm -f -i $c || exit
p=$(podman pod ls -q --filter "label=$0") || exit
[ -z "$p" ] || podman pod rm -f $p"#;

/// Every unit that the target pulls in has to be loaded: otherwise the generator has
/// dropped its file.
pub(super) async fn are_loaded(machine: &Machine, id: &str) -> Result<(), Trouble> {
    let wanted = dependencies(machine, id).await?;
    let loaded = loaded(machine, &wanted).await?;
    let mut missing = wanted.into_iter().filter(|unit| !loaded.contains(unit));
    match missing.next() {
        None => Ok(()),
        Some(unit) => Err(Trouble::Failed(
            unit,
            "no unit".into(),
            "not loaded as a target".into(),
        )),
    }
}

/// Completes when all start jobs are over; with a unit that fails it succeeds all the
/// same.
pub(super) async fn start(machine: &Machine, id: &str) -> Result<(), Trouble> {
    machine.run(&["systemctl", "start", &target(id)]).await?;
    Ok(())
}

/// Completes when all have ended.
pub(super) async fn stop(machine: &Machine, id: &str) -> Result<(), Trouble> {
    let target = target(id);
    let own = loaded(machine, std::slice::from_ref(&target)).await?;
    if own.is_empty() {
        return Ok(());
    }
    let units = dependencies(machine, id).await?;
    machine.run(&["systemctl", "stop", &target]).await?;
    let loaded = loaded(machine, &units).await?;
    if loaded.is_empty() {
        return Ok(());
    }
    for verb in ["stop", "reset-failed"] {
        let mut words = vec!["systemctl", verb];
        words.extend(loaded.iter().map(String::as_str));
        machine.run(&words).await?;
    }
    Ok(())
}

/// What units have left behind.
pub(super) async fn clean(machine: &Machine, id: &str) -> Result<(), Trouble> {
    let label = format!("{LABEL}={id}");
    machine.run(&["sh", "-c", CLEAN, &label]).await?;
    Ok(())
}

async fn dependencies(machine: &Machine, id: &str) -> Result<Vec<String>, Trouble> {
    let target = target(id);
    let list = [
        "systemctl",
        "list-dependencies",
        "--plain",
        "--no-pager",
        "--full",
        &target,
    ];
    let said = machine.run(&list).await?;
    let units = said.lines().map(str::trim);
    Ok(units
        .filter(|unit| !unit.is_empty() && *unit != target)
        .map(str::to_owned)
        .collect())
}

/// Those of them that systemd has read.
async fn loaded(machine: &Machine, units: &[String]) -> Result<Vec<String>, Trouble> {
    if units.is_empty() {
        return Ok(Vec::new());
    }
    let mut words = vec![
        "systemctl",
        "list-units",
        "--all",
        "--plain",
        "--no-legend",
        "--full",
        "--",
    ];
    words.extend(units.iter().map(String::as_str));
    let said = machine.run(&words).await?;
    let rows = said.lines().map(|row| row.split_whitespace());
    Ok(rows
        .filter_map(|mut row| {
            let unit = row.next()?;
            (row.next() == Some("loaded")).then(|| unit.to_owned())
        })
        .collect())
}
