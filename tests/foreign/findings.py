"""Which bugs of the foreign backend fleetsim sees today, which it does not, and which need not be seen.

Tried by hand (`python -m tests.foreign.by_hand`), each on its occasion. The record of a run against somebody's backend holds
what fleetsim's own devices, application and probe sent and heard; the sentences of NOT_SEEN say what of that contradicts
itself. A bug that moves from there to CAUGHT is the aim.
"""

CAUGHT = {  # bug -> the check that fails, and names what is wrong
    "version-skips": "S2-conditional",
    "rejected-counts": "S22-validation",
    "repeats-count": "S4-correlation",
    "delta-missing": "L2-convergence",
    "delta-of-other-job": "L2-convergence",
    "delta-without-url": "L2-convergence",
    "delta-to-all": "S23-targeting",
    "get-of-other-thing": "S23-targeting",
    "two-answers": "S4-correlation",
    "accepts-lost-version": "S2-conditional",
    "refuses-right-version": "S2-conditional",
    "accepts-non-object": "S22-validation",
    "accepts-too-large": "S22-validation",
    "accepts-too-deep": "S22-validation",
    "accepts-long-token": "S22-validation",
    "accepts-null-in-array": "S22-validation",
    "serves-expired": "S14-url",
    "refuses-early": "S14-url",
    "refuses-fresh": "L6-fresh-leave",
    "signs-once": "L6-fresh-leave",
    "milliseconds": "S14-url",
    "wrong-range": "S15-range",
    "range-without-total": "S15-range",
    "wrong-size-announced": "S15-range",
    "same-version": "S1-version",
    "version-goes-back": "S1-version",
    "delta-when-equal": "S3-delta",
    "delta-after-end": "S3-delta",
    "delta-old-version": "S3-delta",
    "altered-bytes": "L11-unplanted",
    "wrong-hash-announced": "L11-unplanted",
    "cuts-body": "L11-unplanted",
    "accepted-without-status": "L11-unplanted",
    "slow-answers": "L11-unplanted",
}
ONLY_BY_THRESHOLD = {  # bug -> what could be compared; only a threshold on `succeeded` fails, for a fault explains the rest
    "wrong-place": "the parts under one ETag do not give the announced hash, though no fault altered a byte",
}
UNKNOWN = {  # bug -> what could be compared; exit code 2, so no pass, but nothing is said to be wrong
    "accepted-without-token": "a request that had a client token is followed by an answer on its topic that has none",
    "delta-without-download": "no delta of this backend holds a download while its answers to a get do",
}
NOT_SEEN = {  # bug -> what could be compared
    "version-per-fleet": "the versions of a thing's answers have gaps, and each of its requests was answered (S1); S2 sees "
    "it only if another thing speaks between two requests of the probe",
    "accepted-other-token": "a device hears an accepted with a token that it never said, and none with its own; S4 sees it "
    "only if the token was of the same thing, by chance",
    "forgets-accepted": "state.reported of a get/accepted lacks what the same device was told is accepted before (S5)",
    "forgets-desired": "a get/accepted has no state.desired, after the offer was accepted and before the next one (S5)",
    "delta-missing-later": "an update was accepted while desired and reported differ, and no delta has its version (S3)",
    "delta-stale": "after the delta of the second job one with the first job's id comes, with a lower version (S3)",
    "get-unanswered": "a get on a connection that stays up has neither get/accepted nor get/rejected (L5; it has no token)",
    "get-without-delta": "a get/accepted in which desired and reported differ has no delta (S3)",
    "get-old-version": "a get/accepted has a lower version than an answer that came before the get (S1)",
    "rejects-with-500-then-accepts": "one client token has a rejected and an accepted, without a request between (S4 takes "
    "no 5xx for an answer)",
    "accepted-other-state": "the accepted's state is not the state of the request with its client token",
    "timestamp-ms": "the timestamp of each answer is a thousand times the clock's seconds",
    "qos0": "answers and deltas come at QoS 0 to a subscription that was granted QoS 1 (S20: none would wait for a device)",
    "retains": "messages come with the retain flag to a new subscription: a command that replays itself (S21)",
    "no-null-delete": "the probe could set a member, set it to null and get the document",
    "serves-unsigned": "nobody asks without a signature: a probe of the storage could, and must get 403",
    "ignores-if-range": "nobody asks for a part under another ETag: a probe of the storage could, and must get 200",
    "short-body": "the Content-Length of a 200 is less than the announced size, and no fault cut it (S15)",
    "etag-changes": "one artifact has another ETag in each response, so that no part can ever be asked for (S15)",
}
HARMLESS = {  # bug -> why the pattern or HTTP allows it
    "duplicate-answers": "messages may come twice; who hears them must not mind",
    "ignores-range": "a server may answer a Range with the whole file",
    "etag-weak": "it is If-Range with a weak ETag that should not be taken, and the bytes are right",
}
