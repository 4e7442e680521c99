#!/usr/bin/env python3
"""Loads deploy/airflow/gosset_nightly.py with Airflow itself, and tries what becomes of each exit code.

usage: dag.py FOLDER GOSSET JOB

GOSSET runs JOB through the operator once. Prints what the DAG runs and what becomes of exit codes as a JSON object.
"""
import json, os, sys, threading, time
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

folder, gosset, job = sys.argv[1:]
stub = os.path.join(os.getcwd(), "stub")
with open(stub, "w") as script:
    script.write('#!/bin/sh\n[ "$1" = sleep ] && exec sleep 60\n[ "$1" = kill ] && kill -9 $$\nexit "$1"\n')
os.chmod(stub, 0o755)

from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
)
from airflow.serialization.serialized_objects import DagSerialization

bag = DagBag(folder)
assert not bag.import_errors, bag.import_errors
dag = bag.dags["gosset_nightly"]
# What the scheduler of Airflow keeps of it.
json.dumps(DagSerialization.to_dict(dag))
gosset_nightly = sys.modules[type(dag.tasks[0]).__module__]

now = datetime.now(timezone.utc)


def context(since):
    """Of a task that was first put off at some time, if it was."""
    return {"ti": SimpleNamespace(get_first_reschedule_date=lambda context: since)}


def becomes(argument, since=None):
    operator = gosset_nightly.GossetOperator(task_id="t", arguments=[argument])
    try:
        operator.execute(context(since))
    except AirflowRescheduleException as put_off:
        assert now + timedelta(minutes=5) < put_off.reschedule_date < now + timedelta(hours=1)
        return "waits"
    except AirflowSkipException:
        return "skipped"
    except AirflowFailException:
        return "fails"
    except AirflowException:
        return "retried"
    return "succeeds"


gosset_nightly.GOSSET, gosset_nightly.JOB = stub, job
codes = {code: becomes(str(code)) for code in range(144)}
codes["kill"] = becomes("kill")
codes["late"] = becomes("66", now - gosset_nightly.PATIENCE - timedelta(minutes=1))

stopped = gosset_nightly.GossetOperator(task_id="stopped", arguments=["sleep"])
threading.Timer(1, stopped.on_kill).start()
began = time.monotonic()
try:
    stopped.execute(context(None))
    sys.exit("a task that is stopped must not go on")
except AirflowException:
    assert time.monotonic() - began < 30

gosset_nightly.GOSSET = gosset
(task,) = dag.tasks
arguments = list(task.arguments)
gosset_nightly.GossetOperator(task_id="real", arguments=["run", job]).execute(context(None))

told = {"arguments": arguments, "codes": codes, "retries": task.retries}
with open("told.json", "w") as out:
    json.dump(told, out)
