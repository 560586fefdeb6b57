"""Lists what a stamp recorded, hour by hour, into a CSV file: prints milliseconds, peak memory in MiB, and the rows.

usage.py DESCRIPTOR.json FROM TO OUT.csv. For the bench: what an operator's script would do in place of azsreg usage show.
DESCRIPTOR.json is the line that azsreg lab up prints, FROM and TO are days. A page is written as it comes. The time counts
from the start of the process, imports included. Linux only, as it reads /proc.
"""

import csv
import json
import os
import resource
import sys
import time

import requests


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def report(rows):
    """Whole milliseconds since the process started (in clock ticks since boot, field 22), and its peak resident set."""
    ticks = int(read("/proc/self/stat").rsplit(")", 1)[1].split()[19])
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    print(f"{age * 1000:.0f}")
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.1f}")
    print(rows)


lab, begin, end, out = json.loads(read(sys.argv[1])), *sys.argv[2:5]
stamp = lab["stamps"][0]
session = requests.Session()
session.verify, session.trust_env = lab["ca_file"], False
endpoint = stamp["admin_arm_endpoint"]
told = session.get(endpoint + "/metadata/endpoints?api-version=2015-01-01").json()["authentication"]
form = {
    "grant_type": "client_credentials",
    "client_id": stamp["stamp_client_id"],
    "client_secret": read(stamp["stamp_client_secret_file"]),
    "scope": told["audiences"][0] + "/.default",
}
token = session.post(told["loginEndpoint"] + "oauth2/v2.0/token", data=form).json()["access_token"]
session.headers["Authorization"] = "Bearer " + token
provider = session.get(endpoint + "/subscriptions?api-version=2015-11-01").json()["value"][0]["id"]
url = (
    f"{endpoint}{provider}/providers/Microsoft.Commerce.Admin/subscriberUsageAggregates?api-version=2015-06-01-preview"
    f"&reportedStartTime={begin}T00:00:00Z&reportedEndTime={end}T00:00:00Z&aggregationGranularity=hourly"
)
rows = 0
with open(out, "w", encoding="utf-8", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["start", "subscription", "meter", "quantity", "resource"])
    while url:
        answer = session.get(url)
        answer.raise_for_status()
        page = answer.json()
        for row in page["value"]:
            row = row["properties"]
            uri = json.loads(row["instanceData"])["Microsoft.Resources"]["resourceUri"]
            writer.writerow([row["usageStartTime"], row["subscriptionId"], row["meterId"], row["quantity"], uri])
            rows += 1
        url = page.get("nextLink")
report(rows)
