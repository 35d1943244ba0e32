"""A broker with TLS, SASL and ACLs beside its plain listener, and who may enter it how.

Invariant: what comes through the plain listener is a superuser, as the tests' own readers are;
           everybody else has the rights that ``Security.grant`` has given, and no others.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from lapwing.acls import Right
from tests.support.services import broker
from tests.support.services.certificates import Authority
from tests.support.services.service import free_port
from tests.support.services.tokens import AUDIENCE, TokenIssuer

_AUTHORIZER = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",
    "allow.everyone.if.no.acl.found": "false",
}
_OAUTH = "org.apache.kafka.common.security.oauthbearer"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"


class Security:
    """One authority, one identity provider, and the listeners SECURE (SASL) and MUTUAL (TLS)."""

    def __init__(self, folder: Path, clients: Iterable[str]) -> None:
        self.folder = folder
        self.authority = Authority(folder, "authority")
        self.stranger = Authority(folder, "stranger")
        self.passwords = {name: secrets.token_urlsafe(18) for name in clients}
        self.tokens = TokenIssuer(folder, dict(self.passwords))
        self.port, self.mutual_port = free_port(), free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.mutual_address = f"127.0.0.1:{self.mutual_port}"
        self.kafka = broker.new_kafka("maven", security=self)
        self._admin: AdminClient | None = None

    # -- what the broker is set to -----------------------------------------------------------------

    def controller_settings(self) -> dict[str, str]:
        """Return what a controller is set to besides."""
        return dict(_AUTHORIZER)

    def broker_settings(self, plain_port: int) -> dict[str, str]:
        """Return what a broker is set to besides."""
        _, _, both = self.authority.issue("broker")
        listeners = {
            "PLAINTEXT": plain_port,
            "SECURE": self.port,
            "MUTUAL": self.mutual_port,
        }
        shown = ",".join(f"{name}://127.0.0.1:{port}" for name, port in listeners.items())
        oauth, scram = "listener.name.secure.oauthbearer", "listener.name.secure.scram-sha-512"
        return _AUTHORIZER | {
            "listeners": shown,
            "advertised.listeners": shown,
            "listener.security.protocol.map": (
                "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURE:SASL_SSL,MUTUAL:SSL"
            ),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(both),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.authority.ca),
            "listener.name.mutual.ssl.client.auth": "required",
            "ssl.principal.mapping.rules": "RULE:^CN=(.*?)(,.*)?$/$1/,DEFAULT",
            "listener.name.secure.sasl.enabled.mechanisms": "SCRAM-SHA-512,OAUTHBEARER",
            f"{scram}.sasl.jaas.config": f"{_SCRAM} required;",
            f"{oauth}.sasl.jaas.config": f"{_OAUTH}.OAuthBearerLoginModule required;",
            f"{oauth}.sasl.server.callback.handler.class": (
                f"{_OAUTH}.OAuthBearerValidatorCallbackHandler"
            ),
            f"{oauth}.sasl.oauthbearer.jwks.endpoint.url": self.tokens.key_set.as_uri(),
            f"{oauth}.sasl.oauthbearer.expected.audience": AUDIENCE,
            "connections.max.reauth.ms": "60000",
        }

    def java_options(self) -> list[str]:
        """Return options of the broker's virtual machine."""
        urls = self.tokens.key_set.as_uri()
        return [f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={urls}"]

    # -- running it --------------------------------------------------------------------------------

    def start(self) -> None:
        self.kafka.start()
        self._admin = AdminClient(
            {"bootstrap.servers": self.kafka.address, "logger": broker.SILENT}
        )
        mechanism = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        answers = self._admin.alter_user_scram_credentials(
            [
                UserScramCredentialUpsertion(name, mechanism, password.encode())
                for name, password in self.passwords.items()
            ]
        )
        for answer in answers.values():
            answer.result(20)

    def close(self) -> None:
        self.tokens.close()
        self.kafka.close()

    def grant(self, client: str, rights: Iterable[Right]) -> None:
        """Give a client exactly these rights."""
        assert self._admin is not None
        principal = f"User:{client}"
        every = AclBindingFilter(
            ResourceType.ANY,
            None,
            ResourcePatternType.ANY,
            principal,
            None,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        for answer in self._admin.delete_acls([every]).values():
            answer.result(20)
        wanted = [binding for right in rights for binding in bindings(right, principal)]
        if wanted:
            for made in self._admin.create_acls(wanted).values():
                made.result(20)

    # -- what clients are set to -------------------------------------------------------------------

    def scram(self, client: str, password: str | None = None) -> dict[str, str]:
        """Return the environment of a client that has a password."""
        file = self.folder / f"{client}.{'password' if password is None else 'wrong-password'}"
        file.write_text(f"{self.passwords[client] if password is None else password}\n")
        return self._sasl() | {
            "LAPWING_KAFKA__SASL_MECHANISM": "SCRAM-SHA-512",
            "LAPWING_KAFKA__SASL_USERNAME": client,
            "LAPWING_KAFKA__SASL_PASSWORD_FILE": str(file),
        }

    def oauth(self, client: str) -> dict[str, str]:
        """Return the environment of a client that gets tokens."""
        file = self.folder / f"{client}.secret"
        file.write_text(f"{self.passwords[client]}\n")
        name = "LAPWING_KAFKA__SASL_OAUTHBEARER"
        return self._sasl() | {
            "LAPWING_KAFKA__SASL_MECHANISM": "OAUTHBEARER",
            f"{name}_METHOD": "oidc",
            f"{name}_CLIENT_ID": client,
            f"{name}_CLIENT_SECRET_FILE": str(file),
            f"{name}_TOKEN_ENDPOINT_URL": self.tokens.url,
        }

    def mutual(
        self, client: str, authority: Authority | None = None, *, days: float = 30
    ) -> dict[str, str]:
        """Return the environment of a client that has a certificate."""
        certificate, key, _ = (authority or self.authority).issue(client, days=days)
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.mutual_address,
            "LAPWING_KAFKA__SECURITY_PROTOCOL": "SSL",
            "LAPWING_KAFKA__SSL_CA_LOCATION": str(self.authority.ca),
            "LAPWING_KAFKA__SSL_CERTIFICATE_LOCATION": str(certificate),
            "LAPWING_KAFKA__SSL_KEY_LOCATION": str(key),
        }

    def _sasl(self) -> dict[str, str]:
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.address,
            "LAPWING_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
            "LAPWING_KAFKA__SSL_CA_LOCATION": str(self.authority.ca),
        }


def bindings(right: Right, principal: str) -> list[Any]:
    """Return what a right is for an authorizer."""
    kinds = {
        "topic": ResourceType.TOPIC,
        "group": ResourceType.GROUP,
        "transactional-id": ResourceType.TRANSACTIONAL_ID,
        "cluster": ResourceType.BROKER,
    }
    pattern = ResourcePatternType.PREFIXED if right.is_prefix else ResourcePatternType.LITERAL
    return [
        AclBinding(
            kinds[right.resource],
            right.name,
            pattern,
            principal,
            "*",
            AclOperation[_snake(operation)],
            AclPermissionType.ALLOW,
        )
        for operation in right.operations
    ]


def _snake(name: str) -> str:
    return "".join(f"_{c}" if c.isupper() and k else c for k, c in enumerate(name)).upper()
