"""A service in a Docker container, by testcontainers."""

from __future__ import annotations

from typing import Any

from tests.support.services.service import STOP_S, Service


class ContainerService(Service):
    """A container in the host network, so that its ports stay the same over a restart."""

    def __init__(self, name: str, image: str, address: str, environment: dict[str, str]) -> None:
        self.name = name
        self.image = image
        self.address = address
        self._environment = environment
        self._container: Any = None

    def prepare(self) -> None:
        if self._container is None:
            from testcontainers.core.config import testcontainers_config
            from testcontainers.core.container import DockerContainer

            # The reaper only matters when this process is killed, and its image is not always to be
            # had.
            testcontainers_config.ryuk_disabled |= bool(_absent(testcontainers_config.ryuk_image))
            container = DockerContainer(self.image).with_kwargs(network_mode="host")
            for name, value in self._environment.items():
                container = container.with_env(name, value)
            self._container = container.start()

    def launch(self) -> None:
        self._docker.start()

    def alive(self) -> bool:
        self._docker.reload()
        return bool(self._docker.status in ("created", "running"))

    def stop(self) -> None:
        self._docker.stop(timeout=int(STOP_S))

    def kill(self) -> None:
        self._docker.kill()
        self._docker.wait()

    def freeze(self) -> None:
        self._docker.pause()

    def thaw(self) -> None:
        self._docker.unpause()

    def close(self) -> None:
        if self._container is not None:
            self._container.stop()
            self._container = None

    def log(self, lines: int = 60) -> str:
        return (
            str(self._docker.logs(tail=lines).decode("utf-8", "replace"))
            if self._container is not None
            else "(no log)"
        )

    @property
    def _docker(self) -> Any:
        return self._container.get_wrapped_container()


def lacking(image: str) -> str:
    """Return why a container of this image cannot start here, "" if it can; pull the image."""
    try:
        import docker
        import testcontainers  # noqa: F401
    except ImportError as error:
        return f"no package {error.name}"
    try:
        docker.from_env(timeout=5).ping()
    except docker.errors.DockerException:
        return "no Docker engine answers"
    return _absent(image)


def _absent(image: str) -> str:
    import docker

    client = docker.from_env(timeout=300)
    try:
        client.images.get(image)
    except docker.errors.ImageNotFound:
        try:
            client.images.pull(image)
        except (docker.errors.APIError, OSError):
            return f"no image {image}, and it cannot be pulled"
    return ""
