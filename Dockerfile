# A command per service: lapwing produce | train | predict | dashboard | topics | tail | doctor. Two images of one build:
# `full` (the default) has everything, `predict` leaves out what only training, its reports and the page need.
FROM python:3.11-slim AS build-predict
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src

# The packages first: they change more rarely than the code.
COPY requirements/ requirements/
RUN python -m venv /opt/build \
 && /opt/build/bin/pip install --quiet --no-deps --require-hashes --only-binary :all: -r requirements/build.txt
RUN python -m venv /opt/lapwing \
 && /opt/lapwing/bin/pip install --quiet --no-deps --require-hashes --only-binary :all: -r requirements/core.txt

COPY LICENSE README.md pyproject.toml ./
COPY schemas/ schemas/
COPY data/ data/
COPY shared/ shared/
COPY producer/ producer/
COPY consumer_training/ consumer_training/
COPY consumer_prediction/ consumer_prediction/
COPY dashboard/ dashboard/
COPY lapwing/ lapwing/
RUN /opt/build/bin/hatchling build -t wheel -d /tmp/dist \
 && /opt/lapwing/bin/pip install --quiet --no-index --no-deps /tmp/dist/*.whl \
 && /opt/lapwing/bin/pip uninstall --quiet --yes pip setuptools

# The kernels, compiled for any processor of this architecture, so that an image built here runs there and a container starts at once.
# For machines that are all alike: --build-arg NUMBA_CPU_NAME=skylake-avx512 or the like.
ARG NUMBA_CPU_NAME=generic
ENV NUMBA_CPU_NAME=${NUMBA_CPU_NAME} NUMBA_CPU_FEATURES=
WORKDIR /
RUN NUMBA_CACHE_DIR=/opt/lapwing/kernels /opt/lapwing/bin/python -m shared.kernels


FROM build-predict AS build-full
RUN /usr/local/bin/python -m pip --python /opt/lapwing/bin/python install --quiet --no-deps --require-hashes --only-binary :all: -r /src/requirements/full.txt


FROM python:3.11-slim AS base
ARG NUMBA_CPU_NAME=generic
RUN groupadd --gid 10001 lapwing \
 && useradd --uid 10001 --gid lapwing --no-create-home --home-dir /tmp --shell /usr/sbin/nologin lapwing \
 && install -d -o lapwing -g lapwing /models /state

ENV PATH=/opt/lapwing/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NUMBA_CPU_NAME=${NUMBA_CPU_NAME} \
    NUMBA_CPU_FEATURES= \
    NUMBA_CACHE_DIR=/tmp/kernels \
    LAPWING_MODELS_DIR=/models \
    LAPWING_STATE_DIR=/state \
    LAPWING_TELEMETRY__PORT=9100

USER lapwing
EXPOSE 9100
HEALTHCHECK --interval=10s --timeout=10s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['LAPWING_TELEMETRY__PORT'] + '/health/live', timeout=8)"]
ENTRYPOINT ["/bin/sh", "/opt/lapwing/bin/entrypoint"]
CMD ["lapwing", "--help"]


FROM base AS predict
COPY --from=build-predict /opt/lapwing /opt/lapwing
COPY deploy/entrypoint.sh /opt/lapwing/bin/entrypoint
CMD ["lapwing", "predict"]


FROM base AS full
COPY --from=build-full /opt/lapwing /opt/lapwing
COPY deploy/entrypoint.sh /opt/lapwing/bin/entrypoint
