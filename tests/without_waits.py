"""Keeps tests/schemathesis.sh from waiting: no worker ends its jobs, so that whoever waits for the end of one waits for all of the time."""

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    # What is no number of seconds is still sent, and refused.
    if str((case.query or {}).get("return_timeout", "")).strip().isdigit():
        del case.query["return_timeout"]
