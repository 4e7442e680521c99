"""Runs a Gosset job every night with Airflow 3, and makes of its exit code what a scheduler needs to know.

| exit code | the task |
| --- | --- |
| 0 | succeeds |
| 66, an input is missing or not fresh | waits and looks again, without using up a retry; after PATIENCE it is skipped: the next night does this day too |
| 69, 75, 137, 143: the store or the cluster is not there, another run or a changed input came in between, killed, stopped | is retried |
| 65, a blocking audit failed or the data is bad; 2, 70, 71, 73, 77, 78, 124 and all others | fails at once: the same run would end in the same way |

What is missing is computed whatever the date of the task, and what is published is not repeated: clearing a task is safe, and
there is nothing to catch up. The worker needs the binary, the job file and the environment of the store (AWS_REGION, ...).
"""

import os
from datetime import datetime, timedelta, timezone

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import DAG, BaseSensorOperator
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
)

GOSSET = os.environ.get("GOSSET", "/usr/local/bin/gosset")
JOB = os.environ.get("GOSSET_JOB", "/etc/gosset/nightly.toml")

NOT_FRESH = 66
AGAIN = {
    69: "the store or the cluster is not available",
    75: "another run was faster, or an input changed while it was read",
    137: "it was killed",
    143: "it was stopped",
}
WRONG = {
    2: "the command line is wrong",
    65: "the data is bad, or a blocking audit failed: see the table audits of the store",
    70: "a bug",
    71: "the memory limit is too small",
    73: "no room to spill or to write",
    77: "permission denied",
    78: "the job file or its SQL is wrong",
    124: "it took longer than the time-out of its job file",
}

LOOK_AGAIN = timedelta(minutes=20)
PATIENCE = timedelta(hours=6)


class GossetOperator(BaseSensorOperator):
    """One command of gosset: a sensor, for it waits until inputs are there, and holds no worker while it waits.

    Its log lines are those of the task; when the task is stopped, it gets SIGTERM and ends cleanly.
    """

    template_fields = ("arguments",)

    def __init__(self, *, arguments, **others):
        super().__init__(mode="reschedule", poke_interval=LOOK_AGAIN, timeout=PATIENCE, **others)
        self.arguments = arguments
        self.process = None

    def poke(self, context):
        self.process = SubprocessHook()
        # Relative paths of the job are relative to its folder here: without one the hook makes one that it deletes again.
        folder = os.path.dirname(os.path.abspath(JOB))
        code = self.process.run_command(command=[GOSSET, *self.arguments], cwd=folder).exit_code
        # Killed by a signal before it could stop by itself.
        code = 128 - code if code < 0 else code
        if code in (0, NOT_FRESH):
            return code == 0
        if code in AGAIN:
            raise AirflowException(f"gosset ended with {code}: {AGAIN[code]}")
        raise AirflowFailException(f"gosset ended with {code}: {WRONG.get(code, 'see its log')}")

    def execute(self, context):
        try:
            return super().execute(context)
        except AirflowSensorTimeout as late:
            raise AirflowSkipException(f"an input is not there after {PATIENCE}") from late

    def on_kill(self):
        if self.process:
            self.process.send_sigterm()


with DAG(
    dag_id="gosset_nightly",
    description="Experiment results of the day, and of days that late files touched",
    schedule="30 4 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    tags=["experiments"],
    doc_md=__doc__,
):
    GossetOperator(
        task_id="run",
        arguments=["run", JOB, "--log-format", "json"],
        retries=6,
        retry_delay=timedelta(minutes=5),
        retry_exponential_backoff=2,
        max_retry_delay=timedelta(hours=1),
        execution_timeout=timedelta(hours=5),
    )
