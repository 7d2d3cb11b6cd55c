# A slim image for the CPU: docker build -t recsys . && docker run -v "$PWD:/work" recsys train data=synthetic
# Not built where this file was written, which has no Docker.
FROM python:3.12-slim

# libgomp: FBGEMM's threads.
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 git && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/recsys
COPY pyproject.toml README.md LICENSE ./
COPY configs configs
COPY recsys recsys
# torch's CPU build; the CUDA build of gigabytes is what the default index has.
RUN pip install --no-cache-dir torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu \
    && pip install --no-cache-dir '.[cpu,faiss,serve]' fbgemm-gpu-cpu==1.8.0 \
    && pip install --no-cache-dir --no-deps torchrec==1.8.0 \
    && recsys doctor
WORKDIR /work
ENTRYPOINT ["recsys"]
CMD ["--help"]
