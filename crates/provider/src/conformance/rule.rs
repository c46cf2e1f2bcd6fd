//! The rules that the checks watch over.

use std::fmt;

macro_rules! rules {
    ($($name:ident: $text:literal),* $(,)?) => {
        /// One rule of the contract.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Rule {
            $(#[doc = $text] $name),*
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The rule in one sentence.
            pub fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text),*
                }
            }
        }
    };
}

rules! {
    NodesArePublished: "nodes() yields the node that pods are bound to",
    AdmitIsPure: "admit decides from its arguments and what is cached: it asks nobody, reserves nothing, starts nothing",
    HeedIsNoted: "what is annotated on a node is noted and no more: nothing starts, ends or starts again",
    EnsureTakesEffect: "a pod that ensure has accepted runs, and the listing says so",
    EnsureIsIdempotent: "ensure repeated for the same UID and revision does nothing",
    EnsureIsDurable: "ensure answers Ok once the remote has durably accepted the pod, not before",
    OldEndsBeforeNew: "another revision takes the place of the first: the old containers end before the new ones start",
    RestartIsAskedFor: "a backend that does not restart by itself starts an ended pod again when asked for a Restart, and only then",
    CallsReturn: "no call waits for a workload to run or to end",
    UnknownIsNotFound: "stop of a pod that the remote does not have is NotFound",
    NotFoundIsCertain: "stop answers NotFound only when nothing of the pod runs and nothing of ours can start it any more",
    StopEnds: "a stopped pod ends, and its end is observed: facts that say ended, or NotFound",
    GraceIsKept: "a pod has its grace to end in; where the grace is Exact, a stop with less of it hurries",
    EndedIsTrue: "facts say ended only when nothing of the pod runs, and nothing starts it again",
    ReleaseFrees: "after release the pod is gone from the listing, and repeating it is no error",
    UidIsIdentity: "pods are told apart by their UID: one name may belong to two of them at once",
    ListingIsWhole: "a listing shows every pod of the remote once, with its own key and node",
    ListingIsFresh: "as_of is not older than the call and not in the future: a cache cannot confirm itself",
    PartialIsDeclared: "a listing that could not ask every place does not say that it is complete",
    ListingHeals: "a listing shows what a lost notification would have said",
    SeqRises: "the seq of a pod's facts never falls, and other facts have another",
    ChangesAgree: "changes() tells of every pod, and in the end what list() says",
    RepeatIsSafe: "a call that was dropped or whose answer was lost can be repeated: nothing is lost, nothing is done twice",
    OutageIsUnavailable: "a remote that cannot be asked is Unavailable: never Ok, never NotFound, never the end of a pod",
    PayloadRestartsNothing: "what changes in the files of a pod reaches its running containers and starts nothing again; repeated, it does nothing",
    MissingInputsAreNamed: "a pod whose inputs are missing is answered Inputs, and nothing of it starts until they are there",
    GoneInputsStopNothing: "an object that is gone again leaves a running pod and its files alone",
    RestartFindsAll: "a new process finds every pod as it is, starts nothing again and ends what was ending",
    CrowdIsServed: "hundreds of calls may be pending at once, and dropping one leaves the others alone",
    FixtureKeepsItsWord: "the fixture does what its documentation says",
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?} ({})", self.text())
    }
}
