"""Independent clients at both ends of usage: Azure's commerce SDK, its azurestack SDK, pypsrp, and plain requests.

A stamp is registered and activated with pypsrp and azure-mgmt-azurestack. What it recorded is read with plain requests, as
no package knows the provider's API; what Azure has is read with azure-mgmt-commerce. The two are compared with a table of
meters and virtual cores of this file's own, in exact decimals.

Run:  AZSREG_LAB='{...one line of JSON...}' python test_usage.py -v
"""

import collections
import datetime
import decimal
import json
import time
import unittest

import test_azure as cloud
import test_life as life
import test_pep as pep
from test_azure import CA_FILE, STAMPS, SUBSCRIPTION, TIMEOUT, control, parameter, sdk

import requests
from azure.core.exceptions import HttpResponseError
from azure.mgmt.azurestack import AzureStackManagementClient
from azure.mgmt.azurestack.models import CustomerSubscription
from azure.mgmt.commerce import UsageManagementClient

STAMP = STAMPS[0]
HOUR, DAY = datetime.timedelta(hours=1), datetime.timedelta(days=1)
CORES = {
    "Standard_A1_v2": 1, "Standard_D2_v2": 2, "Standard_DS3_v2": 4, "Standard_F4s_v2": 4, "Standard_A2": 2, "Standard_D12_v2": 4,
}
MACHINES = {
    "FAB6EB84-500B-4A09-A8CA-7358F8BBAEA5": "Virtual Machine Base",
    "6DAB500F-A4FD-49C4-956D-229BB9C8C793": "Virtual Machine Base",
    "9CD92D4C-BAFD-4492-B278-BEDC2DE8232A": "Windows Server Virtual Machine",
}
OTHERS = {
    "09F8879E-87E9-4305-A572-4B7BE209F857": "Block Blob Storage",
    "B4438D5D-453B-4EE1-B42A-DC72E377F1E4": "Table and Queue Storage",
    "B03C6AE7-B080-4BFA-84A3-22C800F315C6": "Table and Queue Storage",
    "B5C15376-6C94-4FDD-B655-1A69D138ACA3": "Unmanaged Disk Storage",
    "380874F9-300C-48E0-95A0-D2D9A21ADE8F": "Standard Managed Disk",
    "D5F7731B-F639-404A-89D0-E46186E22C8D": "Standard Managed Disk",
    "7660B45B-B29D-49CB-B816-59F30FBAB011": "Premium Managed Disk",
    "E554B6BC-96CD-4938-A5B5-0DA990278519": "Premium Managed Disk",
}

setUpModule = cloud.setUpModule  # The provider is registered.


def now():
    said = requests.get(cloud.CONTROL + "/health", timeout=TIMEOUT).json()["now"]
    return datetime.datetime.fromisoformat(said[:19] + "+00:00")


def advance(duration):
    control("/clock", {"advance_seconds": int(duration.total_seconds())})


def bridge():
    return requests.get(f"{cloud.CONTROL}/stamps/{STAMP['name']}/usage", timeout=TIMEOUT).json()


def uploaded():
    """What can be uploaded is, and the hour in which it was is over."""
    for wait in range(2):
        deadline = time.monotonic() + 60
        while bridge()["waiting_hours"] > 2:
            assert time.monotonic() < deadline, bridge()
            time.sleep(0.02)
        if wait == 0:
            advance(HOUR)


def midnight(at):
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


def exact(number):
    return decimal.Decimal(repr(number))


class UsageTest(cloud.LabTest, pep.PepTest):
    def setUp(self):
        with pep.privileged_pool() as pool:
            self.service_principal(pool)
            self.group, self.name = self.new_registration(stamp=STAMP)
            key = life.registrations().get_activation_key(self.group, self.name).activation_key
            self.succeed(pool, "New-AzureStackActivation", pep.activation_parameters(key))
        self.addCleanup(self.deactivate)

    def deactivate(self):
        with pep.privileged_pool() as pool:
            self.succeed(pool, "Remove-AzureStackActivation")

    def admin(self, query=None, path="/providers/Microsoft.Commerce.Admin/subscriberUsageAggregates", method="GET", **more):
        """The stamp's usage service, over plain HTTPS."""
        endpoint = STAMP["admin_arm_endpoint"]
        told = requests.get(endpoint + "/metadata/endpoints?api-version=2015-01-01", verify=CA_FILE, timeout=TIMEOUT).json()
        told = told["authentication"]
        form = {
            "grant_type": "client_credentials", "client_id": STAMP["stamp_client_id"],
            "client_secret": pep.read_secret(STAMP["stamp_client_secret_file"]),
            "scope": told["audiences"][0] + "/.default",
        }
        token = requests.post(told["loginEndpoint"] + "oauth2/v2.0/token", data=form, verify=CA_FILE, timeout=TIMEOUT).json()
        headers = {"Authorization": "Bearer " + token["access_token"]}
        if "subscription" in more:
            provider = more["subscription"]
        else:
            listed = requests.get(
                endpoint + "/subscriptions?api-version=2015-11-01", headers=headers, verify=CA_FILE, timeout=TIMEOUT
            )
            provider = listed.json()["value"][0]["id"]
        params = {"api-version": "2015-06-01-preview"} | (query or {})
        params = {name: value for name, value in params.items() if value is not None}
        self.headers = headers
        url = endpoint + provider + path
        return requests.request(method, url, params=params, headers=headers, verify=CA_FILE, timeout=TIMEOUT)

    def rows(self, start, end, granularity, **more):
        """All pages: rows, and how many pages there were."""
        asked = {"reportedStartTime": start.isoformat(), "reportedEndTime": end.isoformat(), "aggregationGranularity": granularity}
        answer, rows, pages = self.admin(asked | more), [], 0
        while True:
            self.assertEqual(answer.status_code, 200, answer.text)
            page = answer.json()
            pages += 1
            self.assertLessEqual(len(page["value"]), 1000)
            rows += [row["properties"] for row in page["value"]]
            if not page.get("nextLink"):
                return rows, pages
            answer = requests.get(page["nextLink"], headers=self.headers, verify=CA_FILE, timeout=TIMEOUT)

    def billed(self, start, end, granularity, subscription=SUBSCRIPTION, **more):
        client = sdk(UsageManagementClient, subscription=subscription)
        return list(client.usage_aggregates.list(
            reported_start_time=start, reported_end_time=end, aggregation_granularity=granularity, **more
        ))

    def refuses(self, code, **query):
        end = midnight(now())
        good = {"reportedStartTime": (end - DAY).isoformat(), "reportedEndTime": end.isoformat()}
        answer = self.admin(good | query)
        self.assertEqual((answer.status_code, answer.json()["error"]["code"]), (400, code), answer.text)

    def test_azure_has_what_the_stamp_recorded_to_the_last_digit(self):
        control(f"/stamps/{STAMP['name']}", {"tenants": 12})
        advance(DAY)
        begin = midnight(now()) + DAY
        advance(5 * DAY)
        uploaded()
        end = midnight(now())
        stamp = collections.defaultdict(decimal.Decimal)
        rows, pages = self.rows(begin, end + 3 * HOUR if now() >= end + 3 * HOUR else end, "hourly")
        self.assertGreater(pages, 10)
        for row in rows:
            self.assertEqual(set(row), {"subscriptionId", "usageStartTime", "usageEndTime", "instanceData", "quantity", "meterId"})
            resource = json.loads(row["instanceData"])["Microsoft.Resources"]
            self.assertIn(row["subscriptionId"], resource["resourceUri"])
            day, meter = row["usageStartTime"][:10], row["meterId"].upper()
            if meter in MACHINES:
                size = resource["additionalInfo"]["ServiceType"]
                stamp[day, MACHINES[meter]] += exact(row["quantity"]) * CORES[size]
            elif meter in OTHERS:
                stamp[day, OTHERS[meter]] += exact(row["quantity"])
        for details in (True, False):
            for granularity in ("Daily", "Hourly"):
                azure = collections.defaultdict(decimal.Decimal)
                last = midnight(now()) + DAY if granularity == "Daily" else now().replace(minute=0, second=0) + HOUR
                for line in self.billed(begin, last, granularity, show_details=details):
                    day = line.usage_start_time.date().isoformat()
                    azure[day, line.meter_name] += exact(line.quantity)
                # The days that are whole on both sides.
                days = {(begin + n * DAY).date().isoformat() for n in range((end - begin).days - 1)}
                self.assertGreaterEqual(len(days), 3)
                ours = {key: value for key, value in stamp.items() if key[0] in days}
                theirs = {key: value for key, value in azure.items() if key[0] in days}
                self.assertEqual(ours, theirs, f"{granularity}, details {details}")

    def test_the_documented_errors(self):
        self.refuses("InvalidProperty", reportedStartTime=(midnight(now()) - DAY + HOUR / 2).isoformat(), aggregationGranularity="hourly")
        self.refuses("InvalidProperty", reportedStartTime=(midnight(now()) - DAY + HOUR).isoformat(), aggregationGranularity="daily")
        self.refuses("InvalidProperty", reportedStartTime=None)
        self.refuses("InvalidProperty", reportedStartTime="yesterday")
        self.refuses("InvalidProperty", continuationToken="nonsense")
        self.refuses("RequestEndTimeIsInFuture", reportedEndTime=(midnight(now()) + 2 * DAY).isoformat())
        self.refuses("InvalidAggregationGranularity", aggregationGranularity="weekly")
        self.refuses("SubscriberIdIsNotDirectTenant", subscriberId=SUBSCRIPTION)
        self.refuses("NoApiVersion", **{"api-version": None})
        nobody = self.admin(subscription="/subscriptions")
        self.assertEqual((nobody.status_code, nobody.json()["error"]["code"]), (400, "SubscriptionIdMissingInRequest"))
        # The forms of time that the documentation shows, and the one action of the provider.
        day = midnight(now())
        for form in ("%Y-%m-%dT00:00:00Z", "%Y-%m-%dT00:00:00+00:00Z", "%Y-%m-%dT00:00:00.00Z"):
            asked = {"reportedStartTime": (day - DAY).strftime(form), "reportedEndTime": day.strftime(form)}
            self.assertEqual(self.admin(asked).status_code, 200, form)
        action = self.admin(path="/providers/Microsoft.Commerce.Admin/updateEncryption", method="POST")
        self.assertEqual((action.status_code, action.text), (200, ""))

    def test_one_tenant_alone_and_days_of_hours(self):
        tenant = bridge()["tenants"][0]["subscription"]
        end = midnight(now())
        hours, _ = self.rows(end - 2 * DAY, end, "hourly", subscriberId=tenant)
        days, _ = self.rows(end - 2 * DAY, end, "daily", subscriberId=tenant)
        self.assertEqual({row["subscriptionId"] for row in hours + days}, {tenant})
        self.assertLess(len(days), len(hours) / 5)
        total = lambda rows: sum(exact(row["quantity"]) for row in rows)
        self.assertEqual(total(days), total(hours))
        # By reported time: what was used in an hour may have been reported later.
        late = [row for row in hours if row["usageStartTime"] < (end - 2 * DAY).strftime("%Y-%m-%dT%H")]
        self.assertTrue(late)

    def test_the_sdk_maps_a_tenant_and_its_hours_go_there(self):
        tenant = bridge()["tenants"][1]
        customer = control("/subscriptions", {})["subscription_id"]
        # A client anew each time: a token does not outlive the hours that pass between.
        client = lambda: sdk(AzureStackManagementClient, api_version="2017-06-01").customer_subscriptions
        advance(6 * HOUR)
        client().create(self.group, self.name, customer, CustomerSubscription(tenant_id=tenant["directory"]))
        begin = now().replace(minute=0, second=0)
        advance(10 * HOUR)
        client().delete(self.group, self.name, customer)
        end = now().replace(minute=0, second=0)
        advance(6 * HOUR)
        uploaded()
        theirs = self.billed(begin - DAY, now().replace(minute=0, second=0) + HOUR, "Hourly", subscription=customer)
        self.assertEqual({json.loads(line.instance_data)["Microsoft.Resources"]["additionalInfo"]["AzureStackSubscriptionId"] for line in theirs}, {tenant["subscription"]})
        self.assertEqual((min(line.usage_start_time for line in theirs), max(line.usage_end_time for line in theirs)), (begin, end))
        ours = self.billed(begin - DAY, now().replace(minute=0, second=0) + HOUR, "Hourly")
        between = [
            line for line in ours
            if tenant["subscription"] in line.instance_data and begin <= line.usage_start_time < end
        ]
        self.assertEqual(between, [])

    def test_the_commerce_sdk_is_refused_as_it_must_be(self):
        end = midnight(now())
        for start, last, granularity in (
            (end, end - DAY, "Daily"),
            (end - DAY, end + 3 * DAY, "Daily"),
            (end - DAY + HOUR, end, "Daily"),
            (end - DAY + HOUR / 2, end, "Hourly"),
        ):
            with self.assertRaises(HttpResponseError) as caught:
                self.billed(start, last, granularity)
            self.assertEqual((caught.exception.status_code, caught.exception.error.code), (400, "InvalidInput"))
        nobody = cloud.principal_with()
        with self.assertRaises(HttpResponseError) as caught:
            list(sdk(UsageManagementClient, nobody).usage_aggregates.list(reported_start_time=end - DAY, reported_end_time=end))
        self.assertIn(caught.exception.status_code, (403, 404))


if __name__ == "__main__":
    unittest.main()
