# Training, evaluation and export. From the repository's root:
#   docker build -f docker/train.Dockerfile -t onestride-train .
#   docker run --rm --gpus all -v "$PWD/runs:/data/runs" onestride-train quickstart --preset demo --run runs/demo
FROM python:3.11-slim AS wheel
COPY . /source
RUN pip install --no-cache-dir build && python -m build --wheel --outdir /wheel /source

FROM python:3.11-slim
# A compiler for native folders; what MuJoCo renders films by.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev libegl1 libosmesa6 \
    && rm -rf /var/lib/apt/lists/*
# Torch first, and alone: it is the largest layer, and stays while the rest changes.
RUN pip install --no-cache-dir torch==2.13.0
COPY --from=wheel /wheel /wheel
RUN pip install --no-cache-dir "$(echo /wheel/onestride-*.whl)[all]" && rm -r /wheel

# A mounted runs/ has to be writable for this user: docker run --user "$(id -u):$(id -g)" where it is another's.
RUN useradd --create-home --uid 1000 trainer && mkdir -p /data/runs && chown -R trainer /data
ENV HOME=/home/trainer
USER trainer
WORKDIR /data
VOLUME /data/runs
ENTRYPOINT ["onestride"]
CMD ["--help"]
