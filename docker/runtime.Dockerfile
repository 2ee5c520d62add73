# A robot's computer: exported folders decide and are served, without torch. From the repository's root:
#   docker build -f docker/runtime.Dockerfile -t onestride-runtime .
#   docker run --rm -p 8000:8000 -e ONESTRIDE_API_KEY -v "$PWD/exported/arm:/policy:ro" onestride-runtime
FROM python:3.11-slim AS wheel
COPY . /source
RUN pip install --no-cache-dir build && python -m build --wheel --outdir /wheel /source

FROM python:3.11-slim
# Native folders are compiled where they run. For ONNX folders alone: --build-arg COMPILER=
ARG COMPILER="gcc libc6-dev"
RUN if [ -n "$COMPILER" ]; then \
      apt-get update && apt-get install --yes --no-install-recommends $COMPILER && rm -rf /var/lib/apt/lists/*; \
    fi
COPY --from=wheel /wheel /wheel
RUN pip install --no-cache-dir "$(echo /wheel/onestride-*.whl)[serve,hub]" onnxruntime && rm -r /wheel

# Nobody's rights but its own. The engine's library is kept in its home folder.
RUN useradd --create-home --uid 1000 robot
USER robot
WORKDIR /home/robot
VOLUME /policy
EXPOSE 8000
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
# Other machines may ask, so clients have to know the key in $ONESTRIDE_API_KEY.
ENTRYPOINT ["onestride"]
CMD ["serve", "/policy", "--host", "0.0.0.0"]
