# PgBouncer from Alpine's packages: the project publishes no image. Older ones than 1.25.2 have known faults and stop the build.
ARG ALPINE_IMAGE
FROM ${ALPINE_IMAGE}
RUN apk add --no-cache "pgbouncer>=1.25.2" \
 && addgroup -g 10002 bouncer && adduser -S -D -H -u 10002 -G bouncer bouncer
COPY --chmod=0755 deploy/docker/pgbouncer.sh /usr/local/bin/vlaapi-pgbouncer
COPY deploy/docker/pgbouncer.ini /etc/vlaapi/pgbouncer.ini
USER 10002:10002
ENTRYPOINT ["/usr/local/bin/vlaapi-pgbouncer"]
