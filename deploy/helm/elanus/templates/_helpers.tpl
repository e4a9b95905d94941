{{/* Names and labels. */}}

{{- define "elanus.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "elanus.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .role }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{- define "elanus.labels" -}}
{{ include "elanus.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "elanus.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "elanus.name" .) }}
{{- else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{/* elanus.yaml: what all roles share. Credentials come as environment variables. */}}
{{- define "elanus.config" -}}
metastore:
  type: etcd
etcd:
  endpoints: {{ join "," .Values.etcd.endpoints | quote }}
  rootPath: {{ .Values.etcd.rootPath | quote }}
  {{- with .Values.etcd.ssl }}
  {{- if .enabled }}
  ssl:
    enabled: true
    {{- if .secretName }}
    tlsCACert: /etc/elanus/etcd-tls/ca.crt
    {{- if .clientCertificate }}
    tlsCert: /etc/elanus/etcd-tls/tls.crt
    tlsKey: /etc/elanus/etcd-tls/tls.key
    {{- end }}
    {{- end }}
  {{- end }}
  {{- end }}
  {{- with .Values.etcd.auth.userName }}
  auth:
    enabled: true
    userName: {{ . | quote }}
  {{- end }}
common:
  storageType: remote
  security:
    tlsMode: {{ int .Values.tls.mode }}
    internaltlsEnabled: {{ .Values.tls.internal.enabled }}
{{- if int .Values.tls.mode }}
{{- $_ := required "tls.mode needs tls.secretName" .Values.tls.secretName }}
tls:
  serverPemPath: /etc/elanus/tls/tls.crt
  serverKeyPath: /etc/elanus/tls/tls.key
  caPemPath: /etc/elanus/tls/ca.crt
{{- end }}
{{- if .Values.tls.internal.enabled }}
{{- $_ := required "tls.internal needs secretName" .Values.tls.internal.secretName }}
internaltls:
  serverPemPath: /etc/elanus/internal-tls/tls.crt
  serverKeyPath: /etc/elanus/internal-tls/tls.key
  caPemPath: /etc/elanus/internal-tls/ca.crt
  sni: {{ .Values.tls.internal.sni | quote }}
{{- end }}
{{- with .Values.objectStore }}
minio:
  cloudProvider: {{ .cloudProvider }}
  address: {{ .address | quote }}
  port: {{ int .port }}
  useSSL: {{ .useSSL }}
  bucketName: {{ .bucketName | quote }}
  rootPath: {{ .rootPath | quote }}
  region: {{ .region | quote }}
  useVirtualHost: {{ .useVirtualHost }}
  useIAM: {{ .useIAM }}
{{- end }}
mq:
  type: {{ .Values.wal.type }}
{{- if eq .Values.wal.type "kafka" }}
{{- with .Values.wal.kafka }}
kafka:
  brokerList: {{ join "," .brokers | quote }}
  replicationFactor: {{ int .replicationFactor }}
  ssl:
    enabled: {{ .ssl }}
  {{- if .sasl.userName }}
  saslUsername: {{ .sasl.userName | quote }}
  saslMechanisms: {{ .sasl.mechanism | quote }}
  {{- end }}
{{- end }}
{{- else if eq .Values.wal.type "pulsar" }}
{{- with .Values.wal.pulsar }}
pulsar:
  address: {{ .address | quote }}
  webAddress: {{ .webAddress | quote }}
  tenant: {{ .tenant | quote }}
  namespace: {{ .namespace | quote }}
  authPlugin: {{ .authPlugin | quote }}
{{- end }}
{{- else if ne .Values.wal.type "woodpecker" }}
{{- fail (printf "wal.type is %s: choose woodpecker, kafka or pulsar" .Values.wal.type) }}
{{- end }}
proxy:
  host: 0.0.0.0
  port: {{ int .Values.proxy.port }}
cluster:
  host: 0.0.0.0
  port: 19540
  drainTimeout: {{ int .Values.drainTimeoutSeconds }}
metrics:
  host: 0.0.0.0
  port: 9091
log:
  format: {{ .Values.logFormat }}
localStorage:
  path: /var/lib/elanus
{{- end }}

{{/* A variable from a Secret: of the chart's own or one that exists. */}}
{{- define "elanus.secretVariable" -}}
- name: {{ .variable }}
  valueFrom:
    secretKeyRef:
      name: {{ .existing | default (include "elanus.name" .root) }}
      key: {{ ternary .key .ownKey (not (empty .existing)) }}
{{- end }}

{{- define "elanus.credentials" -}}
{{- $etcd := .Values.etcd.auth }}
{{- if $etcd.userName }}
{{ include "elanus.secretVariable" (dict "root" . "variable" "ELANUS_ETCD_AUTH_PASSWORD" "existing" $etcd.existingSecret "key" "password" "ownKey" "etcdPassword") }}
{{- end }}
{{- $store := .Values.objectStore }}
{{- if not $store.useIAM }}
{{- if eq $store.cloudProvider "gcp" }}
{{ include "elanus.secretVariable" (dict "root" . "variable" "ELANUS_MINIO_GCPCREDENTIALJSON" "existing" $store.existingSecret "key" "gcpCredentialJSON" "ownKey" "gcpCredentialJSON") }}
{{- else }}
{{ include "elanus.secretVariable" (dict "root" . "variable" "ELANUS_MINIO_ACCESSKEYID" "existing" $store.existingSecret "key" "accessKeyID" "ownKey" "accessKeyID") }}
{{ include "elanus.secretVariable" (dict "root" . "variable" "ELANUS_MINIO_SECRETACCESSKEY" "existing" $store.existingSecret "key" "secretAccessKey" "ownKey" "secretAccessKey") }}
{{- end }}
{{- end }}
{{- if and (eq .Values.wal.type "kafka") .Values.wal.kafka.sasl.userName }}
{{ include "elanus.secretVariable" (dict "root" . "variable" "ELANUS_KAFKA_SASLPASSWORD" "existing" .Values.wal.kafka.sasl.existingSecret "key" "password" "ownKey" "kafkaPassword") }}
{{- end }}
{{- if and (eq .Values.wal.type "pulsar") .Values.wal.pulsar.authPlugin }}
{{ include "elanus.secretVariable" (dict "root" . "variable" "ELANUS_PULSAR_AUTHPARAMS" "existing" .Values.wal.pulsar.existingSecret "key" "authParams" "ownKey" "pulsarAuthParams") }}
{{- end }}
{{- end }}
