//! One unit file.

use super::{LINE_LIMIT, TextError, Value};

macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident = $section:literal $text:literal;)*) => {
        /// Every key we ever write. Podman 5.4 knows them all; one it does not
        /// know makes a device roll back everybody's update.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Key { $($(#[$doc])* $name,)* }

        impl Key {
            /// Section and spelling.
            pub(crate) fn spelled(self) -> (&'static str, &'static str) {
                match self { $(Self::$name => ($section, $text),)* }
            }
        }
    };
}

keys! {
    StartLimitInterval = "Unit" "StartLimitIntervalSec";
    Condition = "Unit" "ConditionPathExists";
    After = "Unit" "After";
    Wants = "Unit" "Wants";
    OnSuccess = "Unit" "OnSuccess";
    Image = "Container" "Image";
    ContainerName = "Container" "ContainerName";
    InPod = "Container" "Pod";
    Network = "Container" "Network";
    HostName = "Container" "HostName";
    Entrypoint = "Container" "Entrypoint";
    Exec = "Container" "Exec";
    Environment = "Container" "Environment";
    EnvironmentFile = "Container" "EnvironmentFile";
    WorkingDir = "Container" "WorkingDir";
    User = "Container" "User";
    GroupAdd = "Container" "GroupAdd";
    DropCapability = "Container" "DropCapability";
    AddCapability = "Container" "AddCapability";
    NoNewPrivileges = "Container" "NoNewPrivileges";
    ReadOnly = "Container" "ReadOnly";
    ReadOnlyTmpfs = "Container" "ReadOnlyTmpfs";
    SeccompProfile = "Container" "SeccompProfile";
    SecurityLabelType = "Container" "SecurityLabelType";
    SecurityLabelLevel = "Container" "SecurityLabelLevel";
    Sysctl = "Container" "Sysctl";
    AddHost = "Container" "AddHost";
    Dns = "Container" "DNS";
    DnsSearch = "Container" "DNSSearch";
    DnsOption = "Container" "DNSOption";
    PublishPort = "Container" "PublishPort";
    Volume = "Container" "Volume";
    PodmanArgs = "Container" "PodmanArgs";
    Pull = "Container" "Pull";
    StopTimeout = "Container" "StopTimeout";
    PodName = "Pod" "PodName";
    PodPublishPort = "Pod" "PublishPort";
    PodPodmanArgs = "Pod" "PodmanArgs";
    PodAddHost = "Pod" "AddHost";
    PodDns = "Pod" "DNS";
    PodDnsSearch = "Pod" "DNSSearch";
    PodDnsOption = "Pod" "DNSOption";
    Restart = "Service" "Restart";
    RestartSec = "Service" "RestartSec";
    TimeoutStop = "Service" "TimeoutStopSec";
    ExecStartPre = "Service" "ExecStartPre";
    ExecStartPost = "Service" "ExecStartPost";
    ExecStop = "Service" "ExecStop";
    ExecStopPost = "Service" "ExecStopPost";
    WantedBy = "Install" "WantedBy";
}

/// Sections in the order they are written.
const SECTIONS: [&str; 5] = ["Unit", "Container", "Pod", "Service", "Install"];

/// A unit file being written: keys in order of their sections, then of insertion.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unit(Vec<(Key, Value)>);

impl Unit {
    /// Adds a line; a key may come several times.
    pub(crate) fn set(&mut self, key: Key, value: Value) -> Result<(), TextError> {
        let (_, name) = key.spelled();
        for (index, line) in value.lines().iter().enumerate() {
            let length = line.len() + if index == 0 { name.len() + 1 } else { 0 };
            if length >= LINE_LIMIT {
                return Err(TextError::TooLong(length));
            }
        }
        self.0.push((key, value));
        Ok(())
    }

    /// The text of the file.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        for section in SECTIONS {
            let mut lines = self
                .0
                .iter()
                .filter(|(key, _)| key.spelled().0 == section)
                .peekable();
            if lines.peek().is_some() {
                out.push_str(&format!("[{section}]\n"));
            }
            for (key, value) in lines {
                out.push_str(&format!(
                    "{}={}\n",
                    key.spelled().1,
                    value.lines().join("\n")
                ));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_come_in_order_and_only_when_used() {
        let mut unit = Unit::default();
        unit.set(Key::WantedBy, Value::fixed("default.target"))
            .unwrap();
        unit.set(Key::Image, Value::plain("example.com/a:1").unwrap())
            .unwrap();
        assert_eq!(
            unit.text(),
            "[Container]\nImage=example.com/a:1\n[Install]\nWantedBy=default.target\n"
        );
    }

    #[test]
    fn a_line_ends_one_byte_before_the_servers_limit() {
        let mut unit = Unit::default();
        // Environment="V=…" is 16 bytes around the value.
        let line = |n| Value::assignment("V", &"x".repeat(n)).unwrap();
        assert_eq!(unit.set(Key::Environment, line(2031)), Ok(()));
        assert_eq!(
            unit.set(Key::Environment, line(2032)),
            Err(TextError::TooLong(2048))
        );
    }
}
