#!/bin/sh
# Creates the app on Koyeb. Run it once: afterwards Koyeb deploys each push to the branch. Read README.md first.
#
#   REPOSITORY=github.com/you/reports UPLOADS_S3_BUCKET=my-bucket UPLOADS_S3_REGION=eu-central-1 ./deploy.sh s3
#   REPOSITORY=github.com/you/reports ./deploy.sh cloudinary
#   REPOSITORY=github.com/you/reports ./deploy.sh volume
#
# For Cloudflare R2, set UPLOADS_S3_ENDPOINT_URL instead of the region. REGION is Koyeb's region; by default fra.
#
# KEY=@NAME is the value of Koyeb's secret NAME. This file contains no secret.
set -eu
repository=${REPOSITORY:?"set it to your repository, such as github.com/you/reports"}
region=${REGION:-fra}
variant=${1:-}

case $variant in
s3)
    set -- --env DATABASE_URL=@DATABASE_URL \
        --env UPLOADS_S3_BUCKET="${UPLOADS_S3_BUCKET:?"set it to the name of your bucket"}" \
        --env UPLOADS_S3_ACCESS_KEY_ID=@UPLOADS_S3_ACCESS_KEY_ID \
        --env UPLOADS_S3_SECRET_ACCESS_KEY=@UPLOADS_S3_SECRET_ACCESS_KEY
    if [ -n "${UPLOADS_S3_ENDPOINT_URL:-}" ]; then
        set -- "$@" --env UPLOADS_S3_ENDPOINT_URL="$UPLOADS_S3_ENDPOINT_URL"
    else
        set -- "$@" --env UPLOADS_S3_REGION="${UPLOADS_S3_REGION:?"set it to the region of your bucket"}"
    fi
    ;;
cloudinary)
    set -- --env DATABASE_URL=@DATABASE_URL --env UPLOADS_CLOUDINARY_URL=@UPLOADS_CLOUDINARY_URL
    ;;
volume)
    koyeb volumes create reports-data --region "$region" --size 1
    # Photos and rows are on the same volume. Only one instance may write to it.
    set -- --volumes reports-data:/var/data --scale 1 \
        --env DATABASE_URL=sqlite:////var/data/reports.db --env UPLOADS_DIR=/var/data/uploads
    ;;
*)
    echo "usage: REPOSITORY=github.com/you/reports $0 s3|cloudinary|volume" >&2
    exit 2
    ;;
esac

# The start command is in the Procfile. Without the bucket, account or volume, photos would go to a disk that is wiped:
# because of UPLOADS_REQUIRE_PERSISTENT, the app then does not start. Its two workers need about 180 MB of memory, which
# is a lot for the smallest instance types.
koyeb apps create reports
koyeb services create web --app reports \
    --git "$repository" --git-branch main --git-builder buildpack \
    --regions "$region" --instance-type micro \
    --ports 8000:http --routes /:8000 --checks 8000:http:/uploads/_health \
    --env PORT=8000 --env UPLOADS_MAX_SIZE=10MB --env UPLOADS_REQUIRE_PERSISTENT=true \
    "$@"
