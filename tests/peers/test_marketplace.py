"""Independent clients at the marketplace: Azure's SDK for products, its storage SDK for blobs of Azure and of a stamp.

azure-mgmt-azurestack lists products and details in every api-version; azure-storage-blob reads what they point to, and
uploads to a stamp's storage account as an import does. What is fetched is opened by Python's zipfile, and a disk by
qemu-img where there is one.

Run:  AZSREG_LAB='{...one line of JSON...}' python test_marketplace.py -v
"""

import base64
import datetime
import hashlib
import io
import shutil
import subprocess
import tempfile
import unittest
import zipfile

import test_azure as cloud
from test_azure import CA_FILE, REGISTRATION_VERSIONS, STAMPS, TIMEOUT, control, parameter, principal_with, sdk

import requests
from azure.core.exceptions import HttpResponseError
from azure.mgmt.azurestack import AzureStackManagementClient
from azure.mgmt.azurestack.models import CustomerSubscription, DeviceConfiguration, MarketplaceProductLogUpdate
from azure.storage.blob import BlobBlock, BlobClient, BlobSasPermissions, BlobServiceClient, generate_blob_sas

EXTENSION = "microsoft.vmaccess-linux-1.5.11"
DISK = "azsreglab.tiny-linux-1.0.3"
PROVIDER = "azsreglab.mysql-provider-2.0.13"

setUpModule = cloud.setUpModule  # The provider is registered.


def products(version):
    client = sdk(AzureStackManagementClient, api_version=version)
    return client.products


def blob(url):
    return BlobClient.from_blob_url(url, connection_verify=CA_FILE, retry_total=0)


class Products(cloud.LabTest):
    def setUp(self):
        self.group, self.name = self.new_registration()

    def test_every_version_lists_pages_of_all_four_kinds(self):
        names = {}
        for version in REGISTRATION_VERSIONS:
            listed = list(products(version).list(self.group, self.name))
            names[version] = [product.name for product in listed]
            self.assertGreaterEqual(len(listed), 38)
            self.assertEqual(
                {product.product_kind for product in listed},
                {"virtualMachine", "virtualMachineExtension", "solution", "resourceProvider"},
            )
            self.assertTrue(all(product.name.startswith(self.name + "/") for product in listed))
            self.assertTrue(all(product.payload_length > 0 for product in listed))
        self.assertEqual(len({tuple(listed) for listed in names.values()}), 1)

    def test_every_version_gives_a_product_its_details_and_takes_a_log(self):
        for version in REGISTRATION_VERSIONS:
            with self.subTest(version):
                product = products(version).get(self.group, self.name, EXTENSION)
                self.assertEqual((product.product_kind, product.product_properties.version), ("virtualMachineExtension", "1.5.11"))
                self.assertTrue(product.icon_uris.large.endswith("/Large.png"))
                details = products(version).list_details(self.group, self.name, EXTENSION)
                self.assertIn("sig=", details.gallery_package_blob_sas_uri)
                self.assertEqual(details.vm_os_type, "Linux")
                self.assertIn("sig=", details.uri)
                disk = products(version).list_details(self.group, self.name, DISK)
                self.assertIn("sig=", disk.os_disk_image.source_blob_sas_uri)
                update = MarketplaceProductLogUpdate()
                log = products(version).upload_log(self.group, self.name, EXTENSION, update)
                self.assertEqual(log.product_id, EXTENSION)

    def test_every_version_says_what_is_compatible(self):
        for version in REGISTRATION_VERSIONS:
            with self.subTest(version):
                found = products(version).get_products(self.group, self.name, "_all", DeviceConfiguration())
                self.assertTrue(all(product.compatibility is not None for product in found.value))
                one = products(version).get_product(self.group, self.name, EXTENSION, DeviceConfiguration())
                self.assertTrue(one.compatibility.is_compatible)

    def test_who_may_not_is_refused_and_what_is_not_there_is_not_found(self):
        theirs = sdk(AzureStackManagementClient, principal_with()).products
        with self.refused(403, "AuthorizationFailed", "registrations/products/read"):
            list(theirs.list(self.group, self.name))
        with self.refused(403, "AuthorizationFailed", "registrations/products/listDetails/action"):
            theirs.list_details(self.group, self.name, EXTENSION)
        with self.refused(404, "ProductNotFound"):
            products("2017-06-01").get(self.group, self.name, "no.such-1.0")
        with self.refused(404, "ParentResourceNotFound"):
            list(products("2017-06-01").list(self.group, "nothing"))


class Customers(cloud.LabTest):
    """customerSubscriptions, which the provider has from 2017-06-01 on."""

    def test_a_customer_is_made_listed_replaced_and_deleted(self):
        group, name = self.new_registration()
        first, second = (control("/subscriptions", {})["subscription_id"] for _ in range(2))
        tenant = "dbab3982-796f-4d03-9908-044c08aef8a2"
        for version in REGISTRATION_VERSIONS[1:]:
            with self.subTest(version):
                client = sdk(AzureStackManagementClient, api_version=version).customer_subscriptions
                made = client.create(group, name, first, CustomerSubscription(tenant_id=tenant))
                self.assertEqual((made.name, made.tenant_id), (f"{name}/{first}", tenant))
                client.create(group, name, second, CustomerSubscription(tenant_id=tenant))
                self.assertEqual([found.name for found in client.list(group, name)], [f"{name}/{second}"])
                with self.refused(404, "CustomerSubscriptionNotFound"):
                    client.get(group, name, first)
                with self.refused(400, "BadCustomerSubscriptionId"):
                    client.create(group, name, second.upper(), CustomerSubscription(tenant_id=tenant))
                client.delete(group, name, second)
                client.delete(group, name, second)
                self.assertEqual(list(client.list(group, name)), [])


class AzureBlobs(cloud.LabTest):
    def setUp(self):
        self.group, self.name = self.new_registration()
        self.details = products("2017-06-01").list_details

    def test_an_archive_is_whole_by_its_md5_its_ranges_and_zipfile(self):
        archive = blob(self.details(self.group, self.name, EXTENSION).uri)
        about = archive.get_blob_properties()
        data = archive.download_blob().readall()
        self.assertEqual(len(data), about.size)
        self.assertEqual(hashlib.md5(data).digest(), bytes(about.content_settings.content_md5))
        self.assertEqual(archive.download_blob(offset=1000, length=777, validate_content=True).readall(), data[1000:1777])
        self.assertIsNone(zipfile.ZipFile(io.BytesIO(data)).testzip())
        package = blob(self.details(self.group, self.name, EXTENSION).gallery_package_blob_sas_uri)
        names = zipfile.ZipFile(io.BytesIO(package.download_blob().readall())).namelist()
        self.assertEqual(names, ["manifest.json"])

    def test_a_disk_is_a_vhd(self):
        disk = blob(self.details(self.group, self.name, DISK).os_disk_image.source_blob_sas_uri)
        data = disk.download_blob(max_concurrency=4).readall()
        self.assertEqual(disk.get_blob_properties().blob_type, "PageBlob")
        self.assertEqual(data[-512:-504], b"conectix")
        if shutil.which("qemu-img"):
            with tempfile.NamedTemporaryFile(suffix=".vhd") as file:
                file.write(data)
                file.flush()
                told = subprocess.run(["qemu-img", "info", "-f", "vpc", file.name], capture_output=True, text=True)
                self.assertEqual(told.returncode, 0, told.stderr)
                self.assertIn(f"({len(data) - 512} bytes)", told.stdout)

    def test_an_address_expires_and_is_of_one_blob_alone(self):
        control("/blobs", {"signed_for_seconds": -5})
        self.addCleanup(control, "/blobs", {"signed_for_seconds": 86400})
        expired = blob(self.details(self.group, self.name, EXTENSION).uri)
        with self.assertRaises(HttpResponseError) as caught:
            expired.download_blob()
        self.assertEqual((caught.exception.status_code, caught.exception.error_code), (403, "AuthenticationFailed"))
        control("/blobs", {"signed_for_seconds": 86400})
        good = self.details(self.group, self.name, EXTENSION).uri
        path, query = good.split("?")
        with self.assertRaises(HttpResponseError) as caught:
            blob(path.replace("vmext", "other") + "?" + query).download_blob()
        self.assertEqual(caught.exception.status_code, 403)
        with self.assertRaises(HttpResponseError) as caught:
            blob(good).download_blob(offset=10**9)
        self.assertEqual((caught.exception.status_code, caught.exception.error_code), (416, "InvalidRange"))
        with self.assertRaises(HttpResponseError) as caught:
            blob(good).download_blob(etag='"0x1"', match_condition=cloud_condition())
        self.assertEqual((caught.exception.status_code, caught.exception.error_code), (412, "ConditionNotMet"))


def cloud_condition():
    from azure.core import MatchConditions

    return MatchConditions.IfNotModified


class StampStorage(cloud.LabTest):
    """The storage account of a stamp, made over its admin Resource Manager and used with the official SDK."""

    @classmethod
    def setUpClass(cls):
        stamp = STAMPS[0]
        base = stamp["admin_arm_endpoint"]
        metadata = requests.get(base + "/metadata/endpoints?api-version=2015-01-01", verify=CA_FILE, timeout=TIMEOUT).json()
        audience = metadata["authentication"]["audiences"][0]
        with open(stamp["stamp_client_secret_file"], encoding="utf-8") as file:
            secret = file.read().strip()
        form = {"grant_type": "client_credentials", "client_id": stamp["stamp_client_id"], "client_secret": secret, "scope": audience + "/.default"}
        url = f"{cloud.AUTHORITY}/{cloud.TENANT}/oauth2/v2.0/token"
        token = requests.post(url, data=form, verify=CA_FILE, timeout=TIMEOUT).json()["access_token"]
        cls.headers = {"Authorization": "Bearer " + token}
        cls.base = base
        listed = cls.arm("GET", "/subscriptions", "2015-11-01")
        subscription = listed["value"][0]["subscriptionId"]
        cls.group = f"/subscriptions/{subscription}/resourceGroups/System.syndication"
        cls.arm("PUT", cls.group, "2016-02-01", {"location": "local"})
        account = cls.group + "/providers/Microsoft.Storage/storageAccounts/syndicationstorage"
        body = {"location": "local", "kind": "Storage", "sku": {"name": "Standard_LRS"}, "properties": {}}
        made = cls.arm("PUT", account, "2016-01-01", body)
        cls.endpoint = made["properties"]["primaryEndpoints"]["blob"]
        cls.key = cls.arm("POST", account + "/listKeys", "2016-01-01")["keys"][0]["value"]

    @classmethod
    def tearDownClass(cls):
        requests.delete(f"{cls.base}{cls.group}?api-version=2016-02-01", headers=cls.headers, verify=CA_FILE, timeout=TIMEOUT)

    @classmethod
    def arm(cls, method, path, version, body=None):
        url = f"{cls.base}{path}?api-version={version}"
        answer = requests.request(method, url, json=body, headers=cls.headers, verify=CA_FILE, timeout=TIMEOUT)
        answer.raise_for_status()
        return answer.json()

    def service(self, key=None):
        credential = {"account_name": "syndicationstorage", "account_key": key or self.key}
        return BlobServiceClient(self.endpoint, credential=credential, connection_verify=CA_FILE, retry_total=0)

    def container(self, name, **more):
        made = self.service().create_container(name, **more)
        self.addCleanup(made.delete_container)
        return made

    def test_block_blobs_are_put_in_blocks_listed_and_read_back(self):
        container = self.container("blocks")
        data = bytes(range(256)) * 4096
        target = container.get_blob_client("dir/a b&c.zip")
        ids = []
        for at in range(0, len(data), 300_000):
            ids.append(BlobBlock(base64.b64encode(b"%05d" % at).decode()))
            target.stage_block(ids[-1].id, data[at : at + 300_000], validate_content=True)
        committed, waiting = target.get_block_list("all")
        self.assertEqual((len(committed), len(waiting)), (0, 4))
        target.commit_block_list(ids, metadata={"azsreg_sha256": "x"})
        self.assertEqual(target.get_blob_properties().metadata, {"azsreg_sha256": "x"})
        self.assertEqual(target.download_blob().readall(), data)
        self.assertEqual([found.name for found in container.list_blobs()], ["dir/a b&c.zip"])
        small = container.upload_blob("small", b"hello")
        self.assertEqual(small.download_blob().readall(), b"hello")
        small.delete_blob()
        with self.assertRaises(HttpResponseError) as caught:
            small.download_blob()
        self.assertEqual(caught.exception.error_code, "BlobNotFound")

    def test_page_blobs_know_which_pages_were_written(self):
        target = self.container("pages").get_blob_client("disk.vhd")
        target.create_page_blob(1 << 20)
        target.upload_page(b"x" * 1024, offset=2048, length=1024, validate_content=True)
        ranges, _ = target.get_page_ranges()
        self.assertEqual(ranges, [{"start": 2048, "end": 3071}])
        self.assertEqual(target.download_blob(offset=2000, length=100).readall(), b"\0" * 48 + b"x" * 52)
        with self.assertRaises(HttpResponseError) as caught:
            target.upload_page(b"x" * 512, offset=1 << 20, length=512)
        self.assertEqual((caught.exception.status_code, caught.exception.error_code), (416, "InvalidPageRange"))

    def test_signatures_are_checked(self):
        container = self.container("signed")
        container.upload_blob("a", b"content")
        with self.assertRaises(HttpResponseError) as caught:
            list(self.service(base64.b64encode(b"wrong").decode()).get_container_client("signed").list_blobs())
        self.assertEqual((caught.exception.status_code, caught.exception.error_code), (403, "AuthenticationFailed"))
        end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
        sas = generate_blob_sas("syndicationstorage", "signed", "a", account_key=self.key, permission=BlobSasPermissions(read=True), expiry=end)
        url = f"{self.endpoint}signed/a"
        self.assertEqual(blob(f"{url}?{sas}").download_blob().readall(), b"content")
        late = generate_blob_sas("syndicationstorage", "signed", "a", account_key=self.key, permission=BlobSasPermissions(read=True), expiry=end - datetime.timedelta(hours=2))
        with self.assertRaises(HttpResponseError) as caught:
            blob(f"{url}?{late}").download_blob()
        self.assertEqual(caught.exception.status_code, 403)
        self.assertEqual(requests.get(url, verify=CA_FILE, timeout=TIMEOUT).status_code, 401)
        public = self.container("open", public_access="blob")
        public.upload_blob("a", b"everybody's")
        self.assertEqual(requests.get(f"{self.endpoint}open/a", verify=CA_FILE, timeout=TIMEOUT).content, b"everybody's")


if __name__ == "__main__":
    unittest.main()
