{{- define "orlop.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "orlop.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "orlop.labels" -}}
{{ include "orlop.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
{{- end -}}

{{- define "orlop.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "orlop.name" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* The Secret of REGISTRY_* variables; empty if there is none. */}}
{{- define "orlop.secret" -}}
{{- if .Values.existingSecret -}}
{{- .Values.existingSecret -}}
{{- else if .Values.secret -}}
{{- include "orlop.name" . -}}
{{- end -}}
{{- end -}}

{{/* "true" if the bytes are in an object store, else empty. */}}
{{- define "orlop.objectStore" -}}
{{- $storage := .Values.config.storage | default dict -}}
{{- range list "s3" "s3aws" "azure" "gcs" "swift" "oss" -}}
{{- if hasKey $storage . -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{/* "true" if there may be more than one server, else empty. */}}
{{- define "orlop.several" -}}
{{- if or .Values.autoscaling.enabled (gt (int .Values.replicas) 1) -}}true{{- end -}}
{{- end -}}

{{/* "true" if the facts are in a database that is said somewhere, else empty. */}}
{{- define "orlop.database" -}}
{{- $config := .Values.config.database | default dict -}}
{{- $named := false -}}
{{- range .Values.extraEnv -}}
{{- if eq .name "REGISTRY_DATABASE_URL" -}}{{- $named = true -}}{{- end -}}
{{- end -}}
{{- if or $named .Values.existingSecret (hasKey $config "url") (hasKey .Values.secret "REGISTRY_DATABASE_URL") -}}
true
{{- end -}}
{{- end -}}

{{/* config.yml: the values', and what the chart knows. */}}
{{- define "orlop.config" -}}
{{- $http := dict "draintimeout" (printf "%ds" (int .Values.drain.seconds)) -}}
{{- with .Values.tls.secretName -}}
{{- $_ := set $http "tls" (dict "certificate" "/tls/tls.crt" "key" "/tls/tls.key") -}}
{{- end -}}
{{- $known := dict "http" $http -}}
{{- with .Values.htpasswd.secretName -}}
{{- $_ := set $known "auth" (dict "htpasswd" (dict "realm" "registry" "path" "/auth/htpasswd")) -}}
{{- end -}}
{{- toYaml (mustMergeOverwrite (deepCopy .Values.config) $known) -}}
{{- end -}}

{{/* What would lose data, or not work, is refused. */}}
{{- define "orlop.validate" -}}
{{- $store := include "orlop.objectStore" . -}}
{{- $several := include "orlop.several" . -}}
{{- if and (or $store $several) (not (include "orlop.database" .)) -}}
{{- fail "An object store, or several servers, need PostgreSQL: make a Secret with REGISTRY_DATABASE_URL and name it in existingSecret" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.hosts: say at least one name" -}}
{{- end -}}
{{- if and $several (not $store) (not .Values.persistence.existingClaim) (not (has "ReadWriteMany" .Values.persistence.accessModes)) -}}
{{- fail "Several servers need an object store (config.storage), or a volume with ReadWriteMany (persistence.accessModes)" -}}
{{- end -}}
{{- end -}}
